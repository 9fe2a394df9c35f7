// How two runtimes agree on the same images: predictions that differ, and by how much logits do.
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

/// The logit differences over all examples with finite logits.
struct LogitDifference {
    /// Over all logits.
    double max;
    /// Over all logits.
    double mean;
    /// The 99th percentile, over examples, of each example's largest difference.
    double p99;
};

/// Collects the comparison of one condition, example by example.
class Agreement {
  public:
    /// `predicted` is none where a logit is not finite: such an example agrees with nothing and has no
    /// difference.
    void add(std::size_t label, std::span<const float> reference, std::span<const float> logits,
             std::optional<std::size_t> predicted);

    /// The share of examples with the reference's top class.
    [[nodiscard]] double top1() const;
    [[nodiscard]] const std::vector<Flip>& flips() const { return flips_; }
    [[nodiscard]] std::size_t flips_outside(double margin) const;
    [[nodiscard]] LogitDifference difference() const;

  private:
    std::size_t examples_ = 0;
    std::size_t same_ = 0;
    std::vector<Flip> flips_;
    double sum_ = 0;
    std::size_t logits_ = 0;
    std::vector<double> largest_;
};

}  // namespace harness
