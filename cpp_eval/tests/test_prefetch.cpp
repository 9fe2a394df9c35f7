#include <atomic>
#include <set>

#include "prefetch.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

struct Numbered {
    int number = 0;
    std::vector<int> buffer;
};

// Makes `count` items, each with a buffer.
auto buffered(int count) {
    return [count, next = 0](Numbered& item) mutable {
        item.buffer.resize(10);
        return ++next <= count;
    };
}

}  // namespace

TEST_CASE("items come in order, each once") {
    int next = 0;
    Prefetcher<Numbered> items([&next](Numbered& item) { return (item.number = next++) < 100; }, 3);
    for (int expected = 0; expected < 100; ++expected) {
        const Numbered* item = items.next();
        REQUIRE(item != nullptr);
        CHECK(item->number == expected);
    }
    CHECK(items.next() == nullptr);
    CHECK(items.next() == nullptr);
}

TEST_CASE("buffers are recycled: memory does not grow with the number of items") {
    std::set<const int*> seen;
    Prefetcher<Numbered> items(buffered(50), 2);
    while (const Numbered* item = items.next()) seen.insert(item->buffer.data());
    CHECK(seen.size() <= 3);
}

TEST_CASE("buffers are used in turns: memory is taken by the first items, not whenever one is early") {
    std::vector<const int*> seen;
    Prefetcher<Numbered> items(buffered(9), 2);
    while (const Numbered* item = items.next()) seen.push_back(item->buffer.data());
    REQUIRE(seen.size() == 9);
    CHECK(std::set<const int*>(seen.begin(), seen.begin() + 3).size() == 3);
    for (std::size_t i = 3; i < seen.size(); ++i) CHECK(seen[i] == seen[i - 3]);
}

TEST_CASE("items made before an error are handed out, then the error is thrown") {
    int next = 0;
    const auto produce = [&next](Numbered& item) {
        if (next == 2) throw BadInput("broken");
        item.number = next++;
        return true;
    };
    Prefetcher<Numbered> items(produce, 4);
    CHECK(items.next()->number == 0);
    CHECK(items.next()->number == 1);
    CHECK(error_of([&items] { static_cast<void>(items.next()); }) == "broken");
}

TEST_CASE("leaving early ends the thread") {
    std::atomic<int> made = 0;
    {
        Prefetcher<Numbered> items([&made](Numbered&) { return ++made > 0; }, 2);
        CHECK(items.next() != nullptr);
    }
    CHECK(made <= 4);
}
