#include "scoring/agreement.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "scoring/metrics.hpp"
#include "scoring/statistics.hpp"

namespace harness {

namespace {

constexpr double kLeastScale = 1;

double largest_finite(std::span<const float> logits) {
    double found = 0;
    for (const float logit : logits) {
        if (std::isfinite(logit)) found = std::max(found, std::abs(static_cast<double>(logit)));
    }
    return found;
}

// Infinity minus infinity is NaN, but a class that is switched off in both runtimes is no difference.
double difference_of(float reference, float logit) {
    return reference == logit ? 0 : std::abs(static_cast<double>(logit) - static_cast<double>(reference));
}

}  // namespace

void Agreement::add(std::size_t label, std::span<const float> reference, std::span<const float> logits,
                    std::optional<std::size_t> predicted) {
    const std::size_t example = sizes_.size();
    sizes_.push_back(largest_finite(reference));
    if (std::ranges::any_of(logits, [](float logit) { return std::isnan(logit); })) return;
    double largest = 0;
    for (std::size_t k = 0; k < logits.size(); ++k) {
        const double difference = difference_of(reference[k], logits[k]);
        largest = std::max(largest, difference);
        sum_ += difference;
    }
    logits_ += logits.size();
    differences_.push_back(largest);
    examples_.push_back(example);

    const auto wanted = top_class(reference);
    if (wanted == predicted) {
        ++same_;
    } else if (wanted && predicted) {
        const double margin =
            static_cast<double>(reference[*wanted]) - static_cast<double>(reference[*predicted]);
        flips_.push_back({example, label, *wanted, *predicted, margin});
    }
}

double Agreement::top1() const {
    return share(same_, sizes_.size());
}

double Agreement::least_scale() const {
    return sizes_.empty() ? kLeastScale : std::max(kLeastScale, quantile(sizes_, 0.5));
}

std::size_t Agreement::flips_outside(double margin) const {
    const double least = least_scale();
    return static_cast<std::size_t>(std::ranges::count_if(flips_, [&](const Flip& flip) {
        return flip.margin > margin * std::max(least, sizes_[flip.example]);
    }));
}

std::size_t Agreement::infinite() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(differences_, [](double difference) { return std::isinf(difference); }));
}

LogitDifference Agreement::difference() const {
    const double least = least_scale();
    std::vector<double> relative(differences_.size());
    std::ranges::transform(differences_, examples_, relative.begin(),
                           [&](double difference, std::size_t example) {
                               return difference / std::max(least, sizes_[example]);
                           });
    return {largest(differences_), sum_ / static_cast<double>(logits_), quantile(differences_, 0.99),
            quantile(std::move(relative), 0.99)};
}

}  // namespace harness
