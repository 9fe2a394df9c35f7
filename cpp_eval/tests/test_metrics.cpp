#include <cmath>
#include <limits>

#include "scoring/metrics.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

// Four examples of three classes; one of class 2 is taken for class 1.
Confusion confusion_of_four() {
    Confusion confusion(3);
    confusion.add(0, 0);
    confusion.add(1, 1);
    confusion.add(2, 1);
    confusion.add(2, 2);
    return confusion;
}

}  // namespace

TEST_CASE("the top class is the first of the largest logits") {
    CHECK(top_class(std::vector<float>{1, 3, 3}) == 1u);
    CHECK(top_class(std::vector<float>{-2, -3, -4}) == 0u);
}

TEST_CASE("NaN and an infinite largest logit leave no top class, a class that is switched off does") {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    CHECK_FALSE(top_class(std::vector<float>{1, std::numeric_limits<float>::quiet_NaN()}));
    CHECK_FALSE(top_class(std::vector<float>{infinity, 0}));
    CHECK_FALSE(top_class(std::vector<float>{-infinity, -infinity}));
    CHECK(top_class(std::vector<float>{-infinity, -5, -7}) == 1u);
}

TEST_CASE("scores of each class follow from the confusion matrix") {
    const auto report = class_report(confusion_of_four());
    REQUIRE(report.size() == 3);
    CHECK(report[1].precision == Approx(0.5));
    CHECK(report[1].recall == Approx(1));
    CHECK(report[1].f1 == Approx(2.0 / 3));
    CHECK(report[2].precision == Approx(1));
    CHECK(report[2].recall == Approx(0.5));
    CHECK(report[2].support == 2);
}

TEST_CASE("macro scores average over classes") {
    const auto macro = macro_scores(class_report(confusion_of_four()));
    CHECK(macro.precision == Approx(2.5 / 3));
    CHECK(macro.recall == Approx(2.5 / 3));
    CHECK(macro.f1 == Approx((1 + 4.0 / 3) / 3));
}

TEST_CASE("a class that never occurs is undefined and left out of the average") {
    Confusion confusion(3);
    confusion.add(0, 0);
    confusion.add(0, 1);
    const auto report = class_report(confusion);
    CHECK(std::isnan(report[2].f1));
    CHECK(report[1].precision == 0);  // predicted but never true
    CHECK(report[1].recall == 0);
    CHECK(macro_scores(report).precision == Approx(0.5));
}

TEST_CASE("a share of nothing is undefined") {
    CHECK(std::isnan(share(0, 0)));
    CHECK(share(1, 4) == 0.25);
    CHECK(std::isnan(macro_scores(class_report(Confusion(2))).f1));
}
