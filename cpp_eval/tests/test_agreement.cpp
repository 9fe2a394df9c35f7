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

TEST_CASE("large logits are compared by their size, small ones as they are") {
    Agreement large;
    large.add(0, Logits{5000, -20}, Logits{5000.5f, -20}, 0);
    CHECK(large.difference().max == 0.5);
    CHECK(large.difference().p99_relative == Approx(1e-4));
    Agreement small;
    small.add(0, Logits{0.01f, 0}, Logits{0.02f, 0}, 0);
    CHECK(small.difference().p99_relative == Approx(0.01));
}

TEST_CASE("a flip is excused by its margin times the size of the logits") {
    Agreement agreement;
    agreement.add(0, Logits{2000, 1999, 0}, Logits{1999, 2000, 0}, 1);
    CHECK(agreement.flips_outside(1e-3) == 0);
    CHECK(agreement.flips_outside(4e-4) == 1);
}

TEST_CASE("one example with huge logits loosens the bound for no other, and a typical size holds for all") {
    Agreement agreement;
    agreement.add(0, Logits{1e6f, 0}, Logits{1e6f, 0}, 0);
    for (int i = 0; i < 3; ++i) agreement.add(0, Logits{1, 0.5f}, Logits{0.5f, 1}, 1);
    CHECK(agreement.flips_outside(1e-3) == 3);
    CHECK(agreement.difference().p99_relative == Approx(0.5));
    Agreement typical;  // the last example lies on the boundary of a network with logits of a thousand
    for (int i = 0; i < 3; ++i) typical.add(0, Logits{1000, -1000}, Logits{1000, -1000}, 0);
    typical.add(0, Logits{0.01f, -0.01f}, Logits{-0.01f, 0.01f}, 1);
    CHECK(typical.flips_outside(1e-3) == 0);
    CHECK(typical.difference().p99_relative < 1e-4);
}

TEST_CASE("a class that is switched off in both is no difference, an infinity in one alone is infinite") {
    Agreement off;
    off.add(0, Logits{3, -INFINITY, 1}, Logits{3, -INFINITY, 1}, 0);
    CHECK(off.difference().max == 0);
    CHECK(off.difference().mean == 0);
    CHECK(off.difference().p99_relative == 0);
    CHECK(off.infinite() == 0);
    CHECK(off.top1() == 1);
    Agreement on;
    on.add(0, Logits{3, -INFINITY, 1}, Logits{3, -1e9f, 1}, 0);
    on.add(0, Logits{3, 2, 1}, Logits{INFINITY, 2, 1}, std::nullopt);
    on.add(0, Logits{3, -INFINITY, 1}, Logits{0, 1, 0}, 1);
    CHECK(on.infinite() == 3);
    CHECK(std::isinf(on.difference().max));
    CHECK(std::isinf(on.difference().p99_relative));
    CHECK(on.flips_outside(1e-3) == 1);
    CHECK(std::isinf(on.flips().front().margin));
}

TEST_CASE("an example without a prediction agrees with nothing and has no difference") {
    Agreement agreement;
    agreement.add(0, Logits{1, 0}, Logits{NAN, 0}, std::nullopt);
    CHECK(agreement.top1() == 0);
    CHECK(agreement.flips().empty());
    CHECK(std::isnan(agreement.difference().max));
    CHECK(std::isnan(agreement.difference().mean));
}
