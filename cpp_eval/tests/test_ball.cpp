#include <cmath>
#include <limits>

#include "bundle/ball.hpp"
#include "testing.hpp"

using namespace harness;

TEST_CASE("distances are those of the three norms") {
    const std::vector<float> x = {0.5f, 0.5f, 0.5f};
    const std::vector<float> x_adv = {0.75f, 0.0f, 0.5f};
    CHECK(distance(x_adv, x, Norm::linf) == Approx(0.5));
    CHECK(distance(x_adv, x, Norm::l2) == Approx(std::sqrt(0.3125)));
    CHECK(distance(x_adv, x, Norm::l1) == Approx(0.75));
}

TEST_CASE("every pixel counts, however many there are") {
    for (const std::size_t pixels : {1u, 4u, 7u, 150'529u}) {
        const std::vector<float> x(pixels, 0.25f);
        const std::vector<float> x_adv(pixels, 0.75f);
        const auto n = static_cast<double>(pixels);
        CHECK(distance(x_adv, x, Norm::l2) == Approx(std::sqrt(n / 4)).epsilon(1e-12));
        CHECK(distance(x_adv, x, Norm::l1) == Approx(n / 2).epsilon(1e-12));
        for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
            auto last = x;
            last.back() = 0.75f;
            CHECK(distance(last, x, norm) == 0.5);
        }
    }
}

TEST_CASE("the rim of [0,1] is inside, the next number is not") {
    CHECK(outside_bounds(std::vector<float>(19, 1.0f)) == 0);
    CHECK(outside_bounds(std::vector<float>{0.0f, -0.0f, 1.0f}) == 0);
    for (const float beyond : {std::nextafter(1.0f, 2.0f), -std::numeric_limits<float>::denorm_min()}) {
        std::vector<float> x(19, 0.5f);
        x[18] = beyond;
        CHECK(*outside_bounds(x) > 0);
    }
}

TEST_CASE("the worst pixel outside [0,1] counts") {
    CHECK(outside_bounds(std::vector<float>{0, 1, 0.5f}) == 0);
    CHECK(*outside_bounds(std::vector<float>{-0.25f, 1, 0.5f}) == Approx(0.25));
    CHECK(*outside_bounds(std::vector<float>{-0.25f, 1.5f, 0.5f}) == Approx(0.5));
}

TEST_CASE("a pixel that is not finite is found wherever it lies") {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
        for (std::size_t at = 0; at < 19; ++at) {
            std::vector<float> x(19, 0.5f);
            x[at] = bad;
            CHECK_FALSE(outside_bounds(x));
        }
    }
}

TEST_CASE("rounding to float is within the tolerance, a hundredth of a grey level is not") {
    const Budget budget{Norm::linf, 8.0 / 255, "8/255"};
    const std::vector<float> x = {0.7f};
    const std::vector<float> at_the_rim = {0.7f + static_cast<float>(8.0 / 255)};
    CHECK(distance(at_the_rim, x, Norm::linf) - budget.eps < tolerance(budget));
    CHECK(0.01 / 255 > tolerance(budget));
}

TEST_CASE("norms are named as in the suites") {
    CHECK(parse_norm("Linf") == Norm::linf);
    CHECK(parse_norm("L1") == Norm::l1);
    CHECK_FALSE(parse_norm("linf"));
    CHECK(to_string(Norm::l2) == "L2");
}
