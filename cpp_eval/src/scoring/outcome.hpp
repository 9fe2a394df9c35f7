// What a model did on one condition, summed up example by example.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"
#include "bundle/condition_reader.hpp"
#include "scoring/agreement.hpp"
#include "scoring/metrics.hpp"

namespace harness {

/// When two runtimes count as agreeing. Both bounds are times the scale of an example: see agreement.hpp.
struct Rule {
    /// A flip is excused where the reference preferred its class by no more than this.
    double margin = 1e-3;
    /// Upper bound of the 99th percentile of the logit difference.
    double quantile_bound = 1e-3;
    /// Whether the logits of the reference are expected of this model.
    bool expects_reference = true;
};

/// Collects the outcome of one condition.
class Outcome {
  public:
    Outcome(const Condition& condition, std::size_t classes);

    /// Adds the next examples.
    /// `clean_correct`: which examples of the clean condition this model classifies correctly; null where
    /// there is none. `seconds`: what the pass took.
    void add(const Batch& batch, std::span<const float> logits, const std::vector<bool>* clean_correct,
             double seconds);

    [[nodiscard]] const Condition& condition() const { return *condition_; }
    [[nodiscard]] const Confusion& confusion() const { return confusion_; }
    /// Per example.
    [[nodiscard]] const std::vector<bool>& correct() const { return correct_; }
    [[nodiscard]] double accuracy() const;
    /// The share of examples that are correct clean and not adversarial here; NaN where no attack.
    [[nodiscard]] double robust_accuracy() const;
    /// The share of successes among the initially correct examples, without those of the target class; NaN
    /// where no attack.
    [[nodiscard]] double attack_success_rate() const;
    /// Examples with a logit that is NaN; they have no prediction and count as wrong.
    [[nodiscard]] std::size_t nan_count() const { return nan_count_; }
    /// The largest distance outside the ball or [0,1], and how many examples pass the tolerance.
    [[nodiscard]] double max_violation() const { return max_violation_; }
    [[nodiscard]] std::size_t violations() const { return violations_; }
    /// None where the bundle has no reference logits.
    [[nodiscard]] const std::optional<Agreement>& agreement() const { return agreement_; }
    /// Milliseconds of each batch.
    [[nodiscard]] const std::vector<double>& latencies() const { return latencies_; }

    /// Wall time from asking for the first batch to the last logit, in seconds.
    double seconds = 0;

    /// What speaks against agreement; of the comparison only where the reference is expected.
    [[nodiscard]] std::vector<std::string> disagreements(const Rule& rule) const;
    /// Whether these are the reference's logits by the rule, whether or not they are expected; none without a
    /// reference.
    [[nodiscard]] std::optional<bool> matches(const Rule& rule) const;

  private:
    void count_attack(std::size_t label, std::optional<std::size_t> predicted, bool initially_correct);

    const Condition* condition_;
    Confusion confusion_;
    std::vector<bool> correct_;
    std::size_t hits_ = 0;
    std::size_t nan_count_ = 0;
    std::size_t unbounded_ = 0;  // examples without NaN whose largest logit is infinite
    std::size_t initially_correct_ = 0;
    std::size_t successes_ = 0;
    std::size_t robust_ = 0;
    double max_violation_ = 0;
    std::size_t violations_ = 0;
    std::optional<Agreement> agreement_;
    std::vector<double> latencies_;
};

}  // namespace harness
