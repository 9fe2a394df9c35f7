#include <cmath>
#include <limits>

#include "scoring/statistics.hpp"
#include "testing.hpp"

using namespace harness;

TEST_CASE("a quantile interpolates between neighbours as numpy does") {
    const std::vector<double> values = {4, 1, 3, 2};
    CHECK(quantile(values, 0) == 1);
    CHECK(quantile(values, 1) == 4);
    CHECK(quantile(values, 0.5) == Approx(2.5));
    CHECK(quantile(values, 0.99) == Approx(3.97));
    CHECK(quantile({7}, 0.9) == 7);
}

TEST_CASE("a quantile next to infinity is infinite, never NaN") {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    CHECK(quantile({0, infinity}, 0.99) == infinity);
    CHECK(quantile({0, infinity}, 0) == 0);
    CHECK(quantile({infinity, infinity, 1}, 0.75) == infinity);
    CHECK(quantile({infinity, 1, 2}, 0.5) == 2);
}

TEST_CASE("a summary of nothing is undefined, not 0") {
    CHECK(std::isnan(quantile({}, 0.5)));
    CHECK(std::isnan(largest({})));
}
