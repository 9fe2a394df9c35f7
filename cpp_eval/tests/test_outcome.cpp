#include <cmath>

#include "scoring/outcome.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

Condition condition(Kind kind, std::vector<std::int64_t> labels) {
    Condition made{};
    made.name = "made";
    made.kind = kind;
    made.labels = std::move(labels);
    if (kind != Kind::clean) made.clean = 0;
    return made;
}

// The outcome of one batch whose violations are all `violation`.
Outcome outcome_of(const Condition& made, const std::vector<float>& logits,
                   const std::vector<bool>* clean_correct, double violation = 0,
                   const std::vector<float>& reference = {}) {
    Batch batch;
    batch.count = made.size();
    batch.logits = reference;
    batch.violations.assign(batch.count, violation);
    Outcome outcome(made, logits.size() / made.size());
    outcome.add(batch, logits, clean_correct, 0.001);
    return outcome;
}

}  // namespace

TEST_CASE("accuracy counts correct predictions") {
    const auto made = condition(Kind::clean, {0, 1, 1});
    const auto outcome = outcome_of(made, {1, 0, 0, 1, 1, 0}, nullptr);
    CHECK(outcome.accuracy() == Approx(2.0 / 3));
    CHECK(outcome.correct() == std::vector<bool>{true, true, false});
    CHECK(std::isnan(outcome.robust_accuracy()));
    CHECK(std::isnan(outcome.attack_success_rate()));
}

TEST_CASE("an example that was wrong from the start is no success of the attack") {
    const auto made = condition(Kind::attack, {0, 0, 0, 0});
    const std::vector<bool> clean_correct = {true, true, true, false};
    const auto outcome = outcome_of(made, {1, 0, 0, 1, 1, 0, 0, 1}, &clean_correct);
    CHECK(outcome.attack_success_rate() == Approx(1.0 / 3));
    CHECK(outcome.robust_accuracy() == Approx(0.5));
}

TEST_CASE("a backdoor succeeds by its target class, never on examples of that class") {
    auto made = condition(Kind::trigger, {1, 0, 2, 1});
    made.target_class = 0;
    const std::vector<bool> clean_correct = {true, true, true, true};
    const auto outcome = outcome_of(made, {1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1}, &clean_correct);
    CHECK(outcome.attack_success_rate() == Approx(2.0 / 3));  // the last is wrong, but not the target
    CHECK(outcome.robust_accuracy() == Approx(0.5));
}

TEST_CASE("a subset finds its clean predictions by row") {
    auto made = condition(Kind::attack, {0, 0});
    made.rows = {3, 1};
    const std::vector<bool> clean_correct = {false, true, false, false};
    const auto outcome = outcome_of(made, {0, 1, 0, 1}, &clean_correct);
    CHECK(outcome.attack_success_rate() == 1);
    CHECK(outcome.robust_accuracy() == 0);
}

TEST_CASE("corruptions, folders, and what is rounded and nobody attacked have no success rate") {
    const std::vector<bool> clean_correct = {true};
    for (const Kind kind : {Kind::corruption, Kind::folder, Kind::rounded8bit, Kind::jpeg}) {
        const auto made = condition(kind, {0});
        CHECK_FALSE(made.attacked());
        CHECK(std::isnan(outcome_of(made, {0, 1}, &clean_correct).attack_success_rate()));
    }
}

TEST_CASE("what is rounded or re-encoded after an attack or with a trigger has a success rate") {
    const std::vector<bool> clean_correct = {true};
    for (const Kind kind : {Kind::rounded8bit, Kind::jpeg}) {
        auto attacked = condition(kind, {0});
        attacked.budget = Budget{Norm::linf, 8.0 / 255, "8/255"};
        CHECK(outcome_of(attacked, {0, 1}, &clean_correct).attack_success_rate() == 1);
        auto triggered = condition(kind, {0});
        triggered.target_class = 1;
        CHECK(outcome_of(triggered, {0, 1}, &clean_correct).attack_success_rate() == 1);
    }
}

TEST_CASE("NaN is counted, is wrong, and speaks against agreement") {
    const auto made = condition(Kind::clean, {0, 0});
    const auto outcome = outcome_of(made, {1, NAN, 1, 0}, nullptr);
    CHECK(outcome.nan_count() == 1);
    CHECK(outcome.accuracy() == 0.5);
    CHECK(outcome.disagreements({}) == std::vector<std::string>{"1 example with a logit that is NaN"});
}

TEST_CASE("an infinite largest logit is wrong, and speaks against agreement; a class switched off does not") {
    const auto made = condition(Kind::clean, {0, 0});
    const auto above = outcome_of(made, {INFINITY, 0, 1, -INFINITY}, nullptr);
    CHECK(above.nan_count() == 0);
    CHECK(above.accuracy() == 0.5);
    CHECK(above.disagreements({}) ==
          std::vector<std::string>{"1 example with a largest logit that is infinite"});
    auto stored = made;
    stored.has_logits = true;
    const std::vector<float> reference = {2, -INFINITY, 2, -INFINITY};
    CHECK(outcome_of(stored, reference, nullptr, 0, reference).disagreements({}).empty());
    CHECK(outcome_of(stored, reference, nullptr, 0, reference).matches({}) == true);
    const auto alone = outcome_of(stored, {2, -INFINITY, 2, -9}, nullptr, 0, reference);
    CHECK(contains(alone.disagreements({}).front(),
                   "1 example with a logit that is infinite in one runtime alone"));
    CHECK(alone.matches({.expects_reference = false}) == false);
    CHECK(outcome_of(made, {2, 1, 2, 1}, nullptr).matches({}) == std::nullopt);
}

TEST_CASE("leaving the ball speaks against an attack, not against rounding to 8 bits") {
    const std::vector<bool> clean_correct = {true};
    for (const Kind kind : {Kind::attack, Kind::rounded8bit}) {
        auto made = condition(kind, {0});
        made.budget = Budget{Norm::linf, 8.0 / 255, "8/255"};
        const auto outcome = outcome_of(made, {1, 0}, &clean_correct, 0.002);
        CHECK(outcome.violations() == 1);
        CHECK(outcome.max_violation() == 0.002);
        CHECK(outcome.disagreements({}).size() == (kind == Kind::attack ? 1 : 0));
    }
}

TEST_CASE("the rule: flips outside the margin, and the percentile of the difference") {
    auto made = condition(Kind::clean, {0});
    made.has_logits = true;
    const auto outcome = outcome_of(made, {0.5f, 0.6f}, nullptr, 0, {0.55f, 0.5f});
    CHECK(outcome.disagreements({.margin = 0.01, .quantile_bound = 0.01}) ==
          std::vector<std::string>{"1 flip outside the margin of 0.01",
                                   "99th percentile of the relative logit difference 0.1, above 0.01"});
    CHECK(outcome.disagreements({.margin = 0.06, .quantile_bound = 0.2}).empty());
    CHECK(outcome.disagreements({.margin = 0, .quantile_bound = 0, .expects_reference = false}).empty());
}
