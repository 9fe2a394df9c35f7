// Metrics of classification, as the Python package computes them. An undefined number is NaN, never 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace harness {

/// The class with the largest logit, the first of equals; none where a logit is NaN or the largest one
/// infinite. A class at -inf is one that the network switched off.
[[nodiscard]] std::optional<std::size_t> top_class(std::span<const float> logits);

/// Counts of (true class, predicted class).
class Confusion {
  public:
    explicit Confusion(std::size_t classes) : classes_(classes), counts_(classes * classes) {}

    void add(std::size_t label, std::size_t predicted) { ++counts_[label * classes_ + predicted]; }
    [[nodiscard]] std::size_t classes() const { return classes_; }
    /// The predictions of the examples of one true class, by predicted class.
    [[nodiscard]] std::span<const std::int64_t> row(std::size_t label) const {
        return std::span(counts_).subspan(label * classes_, classes_);
    }

  private:
    std::size_t classes_;
    std::vector<std::int64_t> counts_;
};

/// Scores of one class; NaN where the class has neither labels nor predictions.
struct ClassScores {
    double precision;
    double recall;
    double f1;
    std::int64_t support;
};

/// Averages over the classes that occur among labels or predictions.
struct MacroScores {
    double precision;
    double recall;
    double f1;
};

/// A score without a denominator is 0 as long as the class occurs, as in scikit-learn with zero_division=0.
[[nodiscard]] std::vector<ClassScores> class_report(const Confusion& confusion);

[[nodiscard]] MacroScores macro_scores(std::span<const ClassScores> report);

/// part / whole; NaN where the whole is 0.
[[nodiscard]] double share(std::size_t part, std::size_t whole);

}  // namespace harness
