// How two runtimes agree on the same images: predictions that differ, and by how much logits do. The
// definition is that of harness/export/differences.py:
//
// An example's scale is the reference's largest finite absolute logit of the example, or the median of these
// over all examples if that is larger, and at least 1. A bound on a difference or on a margin is times the
// scale. Equal infinities are no difference, an infinity beside anything else is an infinite one. An example
// with NaN has neither difference nor prediction.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace harness {

/// An example whose top class differs from the reference's.
struct Flip {
    std::size_t example;
    std::size_t label;
    std::size_t reference;
    std::size_t predicted;
    /// By how much the reference preferred its own class: logit of `reference` minus logit of `predicted`.
    double margin;
};

/// The logit differences over all examples without NaN.
struct LogitDifference {
    /// Over all logits.
    double max;
    /// Over all logits.
    double mean;
    /// The 99th percentile, over examples, of each example's largest difference.
    double p99;
    /// The same of the differences divided by the scale of their example: what is judged.
    double p99_relative;
};

/// Collects the comparison of one condition, example by example.
class Agreement {
  public:
    /// `predicted` is none where a logit is NaN or the largest one infinite.
    void add(std::size_t label, std::span<const float> reference, std::span<const float> logits,
             std::optional<std::size_t> predicted);

    /// The share of examples with the reference's top class, or with none in both.
    [[nodiscard]] double top1() const;
    [[nodiscard]] const std::vector<Flip>& flips() const { return flips_; }
    /// The flips that a margin, times the scale, does not excuse.
    [[nodiscard]] std::size_t flips_outside(double margin) const;
    /// The examples with a logit that is infinite in one runtime and something else in the other.
    [[nodiscard]] std::size_t infinite() const;
    [[nodiscard]] LogitDifference difference() const;

  private:
    /// What no example's scale falls below.
    [[nodiscard]] double least_scale() const;

    std::size_t same_ = 0;
    std::vector<Flip> flips_;
    double sum_ = 0;
    std::size_t logits_ = 0;
    std::vector<double> sizes_;          // the reference's largest finite logit, of every example
    std::vector<double> differences_;    // the largest one, of every example without NaN
    std::vector<std::size_t> examples_;  // those that the differences belong to
};

}  // namespace harness
