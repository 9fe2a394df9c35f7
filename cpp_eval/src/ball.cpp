#include "ball.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace harness {

namespace {

// The bits of floats are compared as whole numbers: compilers make vector code of that, and not of the
// minimum or maximum of floats, which may be NaN. Positive floats are ordered as their bits are.
constexpr std::int32_t kExponent = 0x7f800000;
constexpr std::int32_t kMagnitude = 0x7fffffff;

double largest_change(std::span<const float> x_adv, std::span<const float> x) {
    std::int32_t largest = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        largest = std::max(largest, std::bit_cast<std::int32_t>(x_adv[i] - x[i]) & kMagnitude);
    }
    return std::bit_cast<float>(largest);
}

}  // namespace

std::optional<Norm> parse_norm(std::string_view text) {
    for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
        if (text == to_string(norm)) return norm;
    }
    return std::nullopt;
}

std::string_view to_string(Norm norm) {
    switch (norm) {
        case Norm::linf:
            return "Linf";
        case Norm::l2:
            return "L2";
        case Norm::l1:
            return "L1";
    }
    return "";
}

double distance(std::span<const float> x_adv, std::span<const float> x, Norm norm) {
    if (norm == Norm::linf) return largest_change(x_adv, x);
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double change = static_cast<double>(x_adv[i]) - static_cast<double>(x[i]);
        sum += norm == Norm::l2 ? change * change : std::abs(change);
    }
    return norm == Norm::l2 ? std::sqrt(sum) : sum;
}

std::optional<double> outside_bounds(std::span<const float> x) {
    std::int32_t highest = 0;
    std::int32_t lowest = 0;  // magnitude of the lowest negative value
    std::int32_t not_finite = 0;
    for (const float value : x) {
        const auto bits = std::bit_cast<std::int32_t>(value);
        highest = std::max(highest, bits);
        lowest = std::max(lowest, bits < 0 ? bits & kMagnitude : 0);
        not_finite |= static_cast<std::int32_t>((bits & kExponent) == kExponent);
    }
    if (not_finite != 0) return std::nullopt;
    return std::max(double{std::bit_cast<float>(lowest)}, double{std::bit_cast<float>(highest)} - 1.0);
}

double tolerance(const Budget& budget) {
    return budget.norm == Norm::linf ? 1e-6 : 1e-6 + 1e-5 * budget.eps;
}

}  // namespace harness
