#include "bundle/ball.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>

// Compiles a loop over values for wider vectors too; which of them the processor has is found out when the
// program is loaded. A sanitizer would instrument that search, which runs before the sanitizer does.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define HARNESS_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define HARNESS_WIDE
#endif

namespace harness {

namespace {

// The bits of floats are compared as whole numbers: compilers make vector code of that, and not of the
// minimum or maximum of floats, which may be NaN. Positive floats are ordered as their bits are.
constexpr std::int32_t kExponent = 0x7f800000;
constexpr std::int32_t kMagnitude = 0x7fffffff;
constexpr std::uint32_t kOne = 0x3f800000;

// Whether all values lie in [0,1]: the top bit shows a sign, or that less than nothing is left up to 1.
HARNESS_WIDE bool all_inside(std::span<const float> x) {
    std::uint32_t seen = 0;
    for (const float value : x) {
        const auto bits = std::bit_cast<std::uint32_t>(value);
        seen |= bits | (kOne - bits);
    }
    return (seen >> 31) == 0;
}

HARNESS_WIDE double largest_change(std::span<const float> x_adv, std::span<const float> x) {
    std::int32_t largest = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        largest = std::max(largest, std::bit_cast<std::int32_t>(x_adv[i] - x[i]) & kMagnitude);
    }
    return std::bit_cast<float>(largest);
}

// The sum of a function of every change. Several sums are kept: each addition would wait for the one before.
template <typename Function>
double summed(std::span<const float> x_adv, std::span<const float> x, Function&& of) {
    constexpr std::size_t sums = 4;
    std::array<double, sums> sum{};
    const auto change = [&](std::size_t i) {
        return static_cast<double>(x_adv[i]) - static_cast<double>(x[i]);
    };
    const std::size_t whole = x.size() - x.size() % sums;
    for (std::size_t i = 0; i < whole; i += sums)
        for (std::size_t k = 0; k < sums; ++k) sum[k] += of(change(i + k));
    for (std::size_t i = whole; i < x.size(); ++i) sum[0] += of(change(i));
    return std::accumulate(sum.begin(), sum.end(), 0.0);
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
    switch (norm) {
        case Norm::linf:
            return largest_change(x_adv, x);
        case Norm::l2:
            return std::sqrt(summed(x_adv, x, [](double change) { return change * change; }));
        case Norm::l1:
            return summed(x_adv, x, [](double change) { return std::abs(change); });
    }
    return 0;
}

std::optional<double> outside_bounds(std::span<const float> x) {
    if (all_inside(x)) return 0;
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
