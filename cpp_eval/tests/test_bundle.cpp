#include "bundle/bundle.hpp"
#include "bundle/condition_reader.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

const std::filesystem::path kBundles = std::filesystem::path(HARNESS_EVAL_FIXTURES) / "bundles";

std::vector<Batch> batches_of(const Bundle& bundle, std::size_t condition, std::size_t size) {
    ConditionReader reader(bundle, condition);
    std::vector<Batch> batches;
    for (Batch batch; reader.read(batch, size);) batches.push_back(batch);
    return batches;
}

}  // namespace

TEST_CASE("what Python wrote is understood") {
    const auto bundle = Bundle::open(kBundles / "hand.h5");
    CHECK(bundle.model() == "baseline");
    CHECK(bundle.dataset() == "tiny");
    CHECK(bundle.class_names() == std::vector<std::string>{"Bean", "K\xc3\xbcrbis", "Radish"});
    CHECK(bundle.shape() == ImageShape{3, 1, 1});
    REQUIRE(bundle.conditions().size() == 3);
    const Condition& clean = bundle.conditions()[0];
    CHECK(clean.name == "clean");
    CHECK(clean.kind == Kind::clean);
    CHECK(clean.labels == std::vector<std::int64_t>{0, 1, 2, 2});
    CHECK_FALSE(clean.clean);
    const Condition& pgd = bundle.conditions()[1];
    CHECK(pgd.name == "pgd Linf 1-4");
    CHECK(pgd.digest == "a1");
    CHECK(pgd.attack == "pgd");
    CHECK(pgd.budget->eps == 0.25);
    CHECK(pgd.budget->text == "1/4");
    CHECK(pgd.clean == 0u);
    const Condition& trigger = bundle.conditions()[2];
    CHECK(trigger.target_class == 0u);
    CHECK(trigger.rows == std::vector<std::int64_t>{3, 0, 1});
    CHECK_FALSE(trigger.has_logits);
}

TEST_CASE("a folder has examples of its own, and nobody attacked them") {
    const auto bundle = Bundle::open(kBundles / "folder.h5");
    REQUIRE(bundle.conditions().size() == 2);
    const Condition& folder = bundle.conditions()[1];
    CHECK(folder.kind == Kind::folder);
    CHECK(to_string(folder.kind) == "folder");
    CHECK(folder.attack == "street");
    CHECK(folder.labels == std::vector<std::int64_t>{1, 2});
    CHECK_FALSE(folder.clean);
    CHECK_FALSE(folder.attacked());
}

TEST_CASE("images stream in batches of the size asked for, the last one shorter") {
    const auto bundle = Bundle::open(kBundles / "hand.h5");
    const auto batches = batches_of(bundle, 0, 3);
    REQUIRE(batches.size() == 2);
    CHECK(batches[0].count == 3);
    CHECK(batches[1].first == 3);
    CHECK(batches[1].count == 1);
    CHECK(batches[0].x == std::vector<float>{0.9f, 0.1f, 0, 0.2f, 0.7f, 0.1f, 0.1f, 0.6f, 0.3f});
    CHECK(batches[1].logits == std::vector<float>{0, 0.9f, 0.8f});
}

TEST_CASE("ball violations are measured from the clean images") {
    const auto bundle = Bundle::open(kBundles / "hand.h5");
    const auto batches = batches_of(bundle, 1, 4);
    CHECK(batches[0].violations[0] == 0);
    CHECK(batches[0].violations[1] == Approx(0.01).epsilon(1e-4));
}

TEST_CASE("images are read alike however they are stored") {
    const auto plain = Bundle::open(kBundles / "none.h5");
    const auto expected = batches_of(plain, 0, 7);
    for (const char* name : {"lzf.h5", "gzip.h5", "parts_of_rows.h5", "shuffled_only.h5", "shuffled_lzf.h5",
                             "big_endian.h5", "contiguous.h5", "user_block.h5"}) {
        INFO(name);
        const auto bundle = Bundle::open(kBundles / name);
        const auto batches = batches_of(bundle, 0, 7);
        REQUIRE(batches.size() == expected.size());
        for (std::size_t i = 0; i < batches.size(); ++i) {
            CHECK(batches[i].x == expected[i].x);
            CHECK(batches[i].logits == expected[i].logits);
        }
    }
}

TEST_CASE("the batch size changes neither images nor what is measured") {
    const auto bundle = Bundle::open(kBundles / "shuffled_rows.h5");
    const auto whole = batches_of(bundle, 1, 40);
    REQUIRE(whole.size() == 1);
    for (const std::size_t size : {1u, 7u, 11u, 20u}) {
        std::vector<float> x;
        std::vector<double> violations;
        for (const Batch& batch : batches_of(bundle, 1, size)) {
            x.insert(x.end(), batch.x.begin(), batch.x.end());
            violations.insert(violations.end(), batch.violations.begin(), batch.violations.end());
        }
        CHECK(x == whole[0].x);
        CHECK(violations == whole[0].violations);
    }
    for (std::size_t i = 0; i < 40; ++i)  // each leaves the ball a thousandth farther than the one before
        CHECK(whole[0].violations[i] == Approx(1e-3 * static_cast<double>(i)).margin(1e-6));
}

TEST_CASE("a broken bundle is one line that names the place") {
    const auto broken = json_of(kBundles / "broken.json");
    REQUIRE(broken.size() >= 20);
    for (const auto& [file, expected] : broken.items()) {
        const auto read_all = [&path = file] {
            const auto bundle = Bundle::open(kBundles / "broken" / path);
            for (std::size_t i = 0; i < bundle.conditions().size(); ++i) batches_of(bundle, i, 2);
        };
        const std::string message = error_of(read_all);
        INFO(file << ": " << message);
        CHECK(contains(message, expected.get<std::string>()));
        CHECK_FALSE(contains(message, "\n"));
    }
}

TEST_CASE("a bundle in memory reads as the file does") {
    const auto bytes = bytes_of(kBundles / "hand.h5");
    const auto bundle = Bundle::open_image(std::as_bytes(std::span(bytes)));
    CHECK(bundle.conditions().size() == 3);
    CHECK(batches_of(bundle, 1, 10).size() == 1);
}
