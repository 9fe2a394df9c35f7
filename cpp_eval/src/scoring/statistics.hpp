// Summaries of samples.
#pragma once

#include <vector>

namespace harness {

/// The q-quantile, q in [0,1], with linear interpolation as numpy's default, towards infinity: infinity;
/// NaN where there is no value.
[[nodiscard]] double quantile(std::vector<double> values, double q);

/// The largest value; NaN where there is none.
[[nodiscard]] double largest(const std::vector<double>& values);

}  // namespace harness
