#include "ball.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace harness {

namespace {

constexpr std::uint32_t kExponent = 0x7f800000;

double largest_change(std::span<const float> x_adv, std::span<const float> x) {
    float largest = 0;
    for (std::size_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::abs(x_adv[i] - x[i]));
    return largest;
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
    // One pass of plain comparisons, which compilers turn into vector code; NaN compares false, so it is
    // looked for by bits.
    float low = 0;
    float high = 1;
    std::uint32_t not_finite = 0;
    for (const float value : x) {
        low = std::min(low, value);
        high = std::max(high, value);
        not_finite |=
            static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(value) & kExponent) == kExponent);
    }
    if (not_finite != 0) return std::nullopt;
    return std::max(-static_cast<double>(low), static_cast<double>(high) - 1.0);
}

double tolerance(const Budget& budget) {
    return budget.norm == Norm::linf ? 1e-6 : 1e-6 + 1e-5 * budget.eps;
}

}  // namespace harness
