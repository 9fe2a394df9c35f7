// The attacker's ball, recomputed: how far stored images lie outside it, or outside [0,1].
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace harness {

enum class Norm { linf, l2, l1 };

[[nodiscard]] std::optional<Norm> parse_norm(std::string_view text);
[[nodiscard]] std::string_view to_string(Norm norm);

/// A budget in pixel units of [0,1].
struct Budget {
    Norm norm;
    double eps;
    /// As the suite wrote it: "8/255".
    std::string text;
};

/// The size of a perturbation over all pixels and channels of one image.
[[nodiscard]] double distance(std::span<const float> x_adv, std::span<const float> x, Norm norm);

/// How far the worst pixel lies outside [0,1]; 0 is inside; none where a pixel is NaN or infinite.
[[nodiscard]] std::optional<double> outside_bounds(std::span<const float> x);

/// How far outside [0,1] rounding may leave a pixel.
inline constexpr double kBoundsTolerance = 1e-6;

/// The excess over eps that rounding explains. A pixel of a float image in [0,1] is off by at most 2^-25, so
/// a distance in Linf is by 6e-8; sums over many pixels in single precision, as an attack computes them, are
/// off by a share of their size.
[[nodiscard]] double tolerance(const Budget& budget);

}  // namespace harness
