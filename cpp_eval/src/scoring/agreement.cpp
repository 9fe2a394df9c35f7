#include "scoring/agreement.hpp"

#include <algorithm>
#include <cmath>

#include "scoring/metrics.hpp"
#include "scoring/statistics.hpp"

namespace harness {

void Agreement::add(std::size_t label, std::span<const float> reference, std::span<const float> logits,
                    std::optional<std::size_t> predicted) {
    const std::size_t example = examples_++;
    if (!predicted) return;
    double largest = 0;
    for (std::size_t k = 0; k < logits.size(); ++k) {
        const double difference =
            std::abs(static_cast<double>(logits[k]) - static_cast<double>(reference[k]));
        largest = std::max(largest, difference);
        sum_ += difference;
    }
    logits_ += logits.size();
    largest_.push_back(largest);

    const auto wanted = static_cast<std::size_t>(std::ranges::max_element(reference) - reference.begin());
    if (wanted == *predicted) {
        ++same_;
    } else {
        const double margin =
            static_cast<double>(reference[wanted]) - static_cast<double>(reference[*predicted]);
        flips_.push_back({example, label, wanted, *predicted, margin});
    }
}

double Agreement::top1() const {
    return share(same_, examples_);
}

std::size_t Agreement::flips_outside(double margin) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(flips_, [margin](const Flip& flip) { return flip.margin > margin; }));
}

LogitDifference Agreement::difference() const {
    return {largest(largest_), sum_ / static_cast<double>(logits_), quantile(largest_, 0.99)};
}

}  // namespace harness
