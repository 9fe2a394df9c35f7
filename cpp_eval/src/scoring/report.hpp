// Scores as JSON and CSV.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "scoring/score.hpp"

namespace harness {

/// Version of the report's fields; see cpp_eval/README.md.
inline constexpr int kReportVersion = 1;

/// Whether no condition speaks against agreement.
[[nodiscard]] bool agrees(const Scores& scores);

[[nodiscard]] nlohmann::ordered_json to_json(const Scores& scores, const Bundle& bundle,
                                             const ScoreConfig& config);

/// One row a condition: the report's single numbers.
[[nodiscard]] std::string to_csv(const nlohmann::ordered_json& report);

}  // namespace harness
