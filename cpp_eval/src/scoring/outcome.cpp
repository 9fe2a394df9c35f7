#include "scoring/outcome.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace harness {

namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

std::string short_number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g", value);
    return text;
}

std::string counted(std::size_t count, const std::string& what) {
    return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

}  // namespace

Outcome::Outcome(const Condition& condition, std::size_t classes)
    : condition_(&condition), confusion_(classes) {
    correct_.reserve(condition.size());
    if (condition.has_logits) agreement_.emplace();
}

void Outcome::add(const Batch& batch, std::span<const float> logits, const std::vector<bool>* clean_correct,
                  double seconds_taken) {
    const std::size_t classes = confusion_.classes();
    const double allowed = condition_->budget ? tolerance(*condition_->budget) : kBoundsTolerance;
    for (std::size_t i = 0; i < batch.count; ++i) {
        const std::size_t example = batch.first + i;
        const auto label = static_cast<std::size_t>(condition_->labels[example]);
        const auto row = logits.subspan(i * classes, classes);
        const auto predicted = top_class(row);
        const bool correct = predicted == label;
        if (predicted) {
            confusion_.add(label, *predicted);
        } else {
            ++(std::ranges::any_of(row, [](float logit) { return std::isnan(logit); }) ? nan_count_
                                                                                       : unbounded_);
        }
        correct_.push_back(correct);
        if (correct) ++hits_;
        if (clean_correct != nullptr)
            count_attack(label, predicted, (*clean_correct)[condition_->clean_row(example)]);
        if (agreement_)
            agreement_->add(label, std::span(batch.logits).subspan(i * classes, classes), row, predicted);
        max_violation_ = std::max(max_violation_, batch.violations[i]);
        if (batch.violations[i] > allowed) ++violations_;
    }
    latencies_.push_back(1e3 * seconds_taken);
}

void Outcome::count_attack(std::size_t label, std::optional<std::size_t> predicted, bool initially_correct) {
    const auto target = condition_->target_class;
    const bool is_adversarial = target ? predicted == target && label != target : predicted != label;
    if (initially_correct && !is_adversarial) ++robust_;
    if (initially_correct && label != target) {
        ++initially_correct_;
        if (is_adversarial) ++successes_;
    }
}

double Outcome::accuracy() const {
    return share(hits_, correct_.size());
}

double Outcome::robust_accuracy() const {
    return condition_->attacked() ? share(robust_, correct_.size()) : kUndefined;
}

double Outcome::attack_success_rate() const {
    return condition_->attacked() ? share(successes_, initially_correct_) : kUndefined;
}

std::vector<std::string> Outcome::disagreements(const Rule& rule) const {
    std::vector<std::string> reasons;
    if (nan_count_ > 0) reasons.push_back(counted(nan_count_, "example") + " with a logit that is NaN");
    const bool judged = agreement_ && rule.expects_reference;
    if (!judged && unbounded_ > 0)
        reasons.push_back(counted(unbounded_, "example") + " with a largest logit that is infinite");
    if (condition_->kind == Kind::attack && violations_ > 0) {
        reasons.push_back(counted(violations_, "example") + " outside the ball or [0,1], by up to " +
                          short_number(max_violation_));
    }
    if (!judged) return reasons;
    if (const std::size_t infinite = agreement_->infinite(); infinite > 0) {
        reasons.push_back(counted(infinite, "example") +
                          " with a logit that is infinite in one runtime alone");
    }
    if (const std::size_t flips = agreement_->flips_outside(rule.margin); flips > 0) {
        reasons.push_back(counted(flips, "flip") + " outside the margin of " + short_number(rule.margin));
    }
    if (const double p99 = agreement_->difference().p99_relative; p99 > rule.quantile_bound) {
        reasons.push_back("99th percentile of the relative logit difference " + short_number(p99) +
                          ", above " + short_number(rule.quantile_bound));
    }
    return reasons;
}

std::optional<bool> Outcome::matches(const Rule& rule) const {
    if (!agreement_) return std::nullopt;
    return nan_count_ == 0 && agreement_->infinite() == 0 && agreement_->flips_outside(rule.margin) == 0 &&
           !(agreement_->difference().p99_relative > rule.quantile_bound);
}

}  // namespace harness
