#include <cmath>

#include "scoring/agreement.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

using Logits = std::vector<float>;

}  // namespace

TEST_CASE("equal logits agree without a difference") {
    Agreement agreement;
    agreement.add(0, Logits{1, 2}, Logits{1, 2}, 1);
    CHECK(agreement.top1() == 1);
    CHECK(agreement.flips().empty());
    CHECK(agreement.difference().max == 0);
}

TEST_CASE("a flip's margin is how far the reference preferred its own class") {
    Agreement agreement;
    agreement.add(0, Logits{1, 0.5f, 0}, Logits{1, 0.5f, 0}, 0);
    agreement.add(2, Logits{0.25f, 1, 0}, Logits{2, 1, 0}, 0);
    REQUIRE(agreement.flips().size() == 1);
    const Flip& flip = agreement.flips().front();
    CHECK(flip.example == 1);
    CHECK(flip.label == 2);
    CHECK(flip.reference == 1);
    CHECK(flip.predicted == 0);
    CHECK(flip.margin == Approx(0.75));
    CHECK(agreement.flips_outside(0.5) == 1);
    CHECK(agreement.flips_outside(0.75) == 0);
    CHECK(agreement.top1() == 0.5);
}

TEST_CASE("differences: the largest and the mean over logits, the percentile over examples") {
    Agreement agreement;
    agreement.add(0, Logits{1, 0}, Logits{1.5f, 0}, 0);
    agreement.add(0, Logits{1, 0}, Logits{1, 0.25f}, 0);
    const auto difference = agreement.difference();
    CHECK(difference.max == Approx(0.5));
    CHECK(difference.mean == Approx(0.75 / 4));
    CHECK(difference.p99 == Approx(0.25 + 0.99 * 0.25));
}

TEST_CASE("an example without a prediction agrees with nothing and has no difference") {
    Agreement agreement;
    agreement.add(0, Logits{1, 0}, Logits{NAN, 0}, std::nullopt);
    CHECK(agreement.top1() == 0);
    CHECK(agreement.flips().empty());
    CHECK(std::isnan(agreement.difference().max));
    CHECK(std::isnan(agreement.difference().mean));
}
