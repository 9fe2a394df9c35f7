#include <cstddef>
#include <string>

#include "bundle/lzf.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

std::vector<std::byte> bytes(std::initializer_list<int> values) {
    std::vector<std::byte> out;
    for (const int value : values) out.push_back(static_cast<std::byte>(value));
    return out;
}

std::optional<std::vector<std::byte>> decompressed(const std::vector<std::byte>& input, std::size_t room) {
    std::vector<std::byte> output(room);
    const auto written = lzf_decompress(input, output);
    if (!written) return std::nullopt;
    output.resize(*written);
    return output;
}

}  // namespace

TEST_CASE("literals are copied") {
    CHECK(decompressed(bytes({2, 'a', 'b', 'c'}), 3) == bytes({'a', 'b', 'c'}));
}

TEST_CASE("a match repeats what lies behind it, overlapping itself if it must") {
    CHECK(decompressed(bytes({1, 'a', 'b', 0x20, 1}), 8) == bytes({'a', 'b', 'a', 'b', 'a'}));
    CHECK(decompressed(bytes({0, 'x', 0xe0, 1, 0}), 32) == std::vector<std::byte>(11, std::byte{'x'}));
}

TEST_CASE("a match of a float's length or less is copied, with room behind it or none") {
    const auto literals = bytes({7, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'});
    const std::string text = "abcdefgh";
    for (const std::size_t length : {3u, 4u}) {
        for (const std::size_t distance : {1u, 2u, 3u, 4u, 5u, 8u}) {
            auto input = literals;
            input.push_back(static_cast<std::byte>((length - 2) << 5));
            input.push_back(static_cast<std::byte>(distance - 1));
            std::string expected = text;
            for (std::size_t i = 0; i < length; ++i) expected += expected[expected.size() - distance];
            for (const std::size_t room : {text.size() + length, text.size() + length + 1, std::size_t{64}}) {
                const auto found = decompressed(input, room);
                REQUIRE(found);
                CHECK(std::string(reinterpret_cast<const char*>(found->data()), found->size()) == expected);
            }
            CHECK_FALSE(decompressed(input, text.size() + length - 1));
        }
    }
}

TEST_CASE("a match that begins before the output is refused") {
    CHECK_FALSE(decompressed(bytes({0, 'x', 0x20, 1}), 32));
}

TEST_CASE("a block that ends in the middle is refused") {
    CHECK_FALSE(decompressed(bytes({3, 'a', 'b'}), 32));
    CHECK_FALSE(decompressed(bytes({0, 'x', 0x20}), 32));
    CHECK_FALSE(decompressed(bytes({0, 'x', 0xe0}), 32));
}

TEST_CASE("a block that does not fit the output is refused") {
    CHECK_FALSE(decompressed(bytes({2, 'a', 'b', 'c'}), 2));
    CHECK_FALSE(decompressed(bytes({0, 'x', 0x20, 0}), 3));
}

TEST_CASE("nothing decompresses to nothing") {
    CHECK(decompressed({}, 4) == bytes({}));
}

TEST_CASE("a filter is LZF only where it unpacks to the size of a chunk") {
    const std::vector<unsigned> values = {4, 0x0105, 48};
    CHECK(is_lzf_filter(32000, values, 48));
    CHECK_FALSE(is_lzf_filter(32000, values, 64));
    CHECK_FALSE(is_lzf_filter(32000, std::span(values).first(2), 48));
    CHECK_FALSE(is_lzf_filter(1, values, 48));
}
