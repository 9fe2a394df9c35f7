#include "scoring/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace harness {

namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

double rate(std::int64_t numerator, std::int64_t denominator) {
    return denominator == 0 ? 0.0 : static_cast<double>(numerator) / static_cast<double>(denominator);
}

}  // namespace

std::optional<std::size_t> top_class(std::span<const float> logits) {
    if (std::ranges::any_of(logits, [](float logit) { return std::isnan(logit); })) return std::nullopt;
    const auto largest = std::ranges::max_element(logits);
    if (largest == logits.end() || std::isinf(*largest)) return std::nullopt;
    return static_cast<std::size_t>(largest - logits.begin());
}

std::vector<ClassScores> class_report(const Confusion& confusion) {
    const std::size_t classes = confusion.classes();
    std::vector<std::int64_t> predicted(classes);
    for (std::size_t label = 0; label < classes; ++label) {
        const auto row = confusion.row(label);
        std::transform(row.begin(), row.end(), predicted.begin(), predicted.begin(), std::plus<>());
    }
    std::vector<ClassScores> report;
    report.reserve(classes);
    for (std::size_t label = 0; label < classes; ++label) {
        const auto row = confusion.row(label);
        const std::int64_t support = std::accumulate(row.begin(), row.end(), std::int64_t{0});
        const std::int64_t hits = row[label];
        if (support + predicted[label] == 0) {
            report.push_back({kUndefined, kUndefined, kUndefined, 0});
        } else {
            report.push_back({rate(hits, predicted[label]), rate(hits, support),
                              rate(2 * hits, support + predicted[label]), support});
        }
    }
    return report;
}

MacroScores macro_scores(std::span<const ClassScores> report) {
    MacroScores sum{0, 0, 0};
    double occurring = 0;
    for (const ClassScores& scores : report) {
        if (std::isnan(scores.precision)) continue;
        sum.precision += scores.precision;
        sum.recall += scores.recall;
        sum.f1 += scores.f1;
        ++occurring;
    }
    if (occurring == 0) return {kUndefined, kUndefined, kUndefined};
    return {sum.precision / occurring, sum.recall / occurring, sum.f1 / occurring};
}

double share(std::size_t part, std::size_t whole) {
    return whole == 0 ? kUndefined : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace harness
