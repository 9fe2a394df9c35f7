#include "scoring/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace harness {

double quantile(std::vector<double> values, double q) {
    if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
    const double position = q * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const auto at = values.begin() + static_cast<std::ptrdiff_t>(below);
    std::nth_element(values.begin(), at, values.end());
    const double low = *at;
    const double part = position - static_cast<double>(below);
    if (part == 0) return low;
    const double high = *std::min_element(at + 1, values.end());
    return std::isinf(high) ? high : std::lerp(low, high, part);
}

double largest(const std::vector<double>& values) {
    if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
    return *std::max_element(values.begin(), values.end());
}

}  // namespace harness
