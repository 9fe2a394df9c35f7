#include "bundle/condition_reader.hpp"

#include <algorithm>
#include <cmath>

#include "error.hpp"

namespace harness {

namespace {

// So many values, and the clean images of as many, are still in the processor's cache when they are measured.
constexpr std::size_t kBlockValues = std::size_t{1} << 17;

}  // namespace

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
    batch.violations.resize(batch.count);
    const std::size_t block = std::max(std::size_t{1}, kBlockValues / values);
    for (std::size_t start = 0; start < batch.count; start += block)
        read_images(batch, start, std::min(block, batch.count - start));
    read_logits(batch);
    return true;
}

// Reads images into the batch and measures them.
void ConditionReader::read_images(Batch& batch, std::size_t start, std::size_t count) {
    const std::size_t values = condition_.shape.size();
    const auto x = std::span(batch.x).subspan(start * values, count * values);
    x_.read(batch.first + start, count, x);
    for (std::size_t i = 0; i < count; ++i)
        batch.violations[start + i] = violation(x.subspan(i * values, values), batch.first + start + i);
}

// How far an image is from the clean image of its example, which is measured where it lies in the file if it
// can be.
double ConditionReader::moved(std::span<const float> x, std::size_t example) {
    const std::size_t row = condition_.clean_row(example);
    if (const auto stored = clean_x_->stored(row))
        return distance(x, stored->values, condition_.budget->norm);
    clean_.resize(x.size());
    clean_x_->read(row, 1, clean_);
    return distance(x, clean_, condition_.budget->norm);
}

void ConditionReader::read_logits(Batch& batch) {
    batch.logits.resize(logits_ ? batch.count * classes_ : 0);
    if (!logits_) return;
    logits_->read(batch.first, batch.count, batch.logits);
    if (std::ranges::any_of(batch.logits, [](float logit) { return std::isnan(logit); })) {
        throw BadInput(
            logits_->place() +
            ": expected finite values or infinities, got NaN in the batch that starts at example " +
            std::to_string(batch.first));
    }
}

double ConditionReader::violation(std::span<const float> x, std::size_t example) {
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
    return std::max(*bounds, moved(x, example) - condition_.budget->eps);
}

}  // namespace harness
