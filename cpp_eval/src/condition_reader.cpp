#include "condition_reader.hpp"

#include <algorithm>
#include <cmath>

#include "error.hpp"

namespace harness {

ConditionReader::ConditionReader(const Bundle& bundle, std::size_t condition)
    : condition_(bundle.conditions()[condition]),
      index_(condition),
      classes_(bundle.class_names().size()),
      x_(hdf5::open_dataset(bundle.group(condition_), "x")) {
    if (condition_.has_logits) logits_.emplace(hdf5::open_dataset(bundle.group(condition_), "logits"));
    if (condition_.clean && condition_.budget) {
        const Condition& clean = bundle.conditions()[*condition_.clean];
        clean_x_.emplace(hdf5::open_dataset(bundle.group(clean), "x"));
    }
}

bool ConditionReader::read(Batch& batch, std::size_t size) {
    if (next_ == condition_.size()) return false;
    batch.condition = index_;
    batch.first = next_;
    batch.count = std::min(size, condition_.size() - next_);
    next_ += batch.count;

    const std::size_t values = condition_.shape.size();
    batch.x.resize(batch.count * values);
    x_.read(batch.first, batch.count, batch.x);
    batch.logits.resize(logits_ ? batch.count * classes_ : 0);
    if (logits_) {
        logits_->read(batch.first, batch.count, batch.logits);
        if (!std::ranges::all_of(batch.logits, [](float logit) { return std::isfinite(logit); })) {
            throw BadInput(
                logits_->place() +
                ": expected finite values, got NaN or infinity in the batch that starts at example " +
                std::to_string(batch.first));
        }
    }
    if (clean_x_) read_clean(batch);
    batch.violations.resize(batch.count);
    for (std::size_t i = 0; i < batch.count; ++i) {
        batch.violations[i] =
            violation(std::span(batch.x).subspan(i * values, values), batch.first + i, i * values);
    }
    return true;
}

// The ball's centres. Runs of neighbouring rows are read in one go.
void ConditionReader::read_clean(const Batch& batch) {
    const std::size_t values = condition_.shape.size();
    clean_.resize(batch.count * values);
    for (std::size_t start = 0; start < batch.count;) {
        const std::size_t row = condition_.clean_row(batch.first + start);
        std::size_t run = 1;
        while (start + run < batch.count && condition_.clean_row(batch.first + start + run) == row + run)
            ++run;
        clean_x_->read(row, run, std::span(clean_).subspan(start * values, run * values));
        start += run;
    }
}

double ConditionReader::violation(std::span<const float> x, std::size_t example, std::size_t offset) const {
    const auto bounds = outside_bounds(x);
    if (!bounds) {
        throw BadInput(x_.place() + ": example " + std::to_string(example) +
                       ": expected finite values, got NaN or infinity");
    }
    if (*bounds > kBoundsTolerance) {
        throw BadInput(x_.place() + ": example " + std::to_string(example) +
                       ": expected values from 0 to 1, got one " + std::to_string(*bounds) + " outside");
    }
    if (!clean_x_) return *bounds;
    const std::span<const float> centre = std::span(clean_).subspan(offset, x.size());
    return std::max(*bounds, distance(x, centre, condition_.budget->norm) - condition_.budget->eps);
}

}  // namespace harness
