#include "scoring/report.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <optional>
#include <string_view>

#include "scoring/statistics.hpp"

namespace harness {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kCsvColumns = {"name",
                                    "kind",
                                    "attack",
                                    "norm",
                                    "eps",
                                    "digest",
                                    "n",
                                    "accuracy",
                                    "robust_accuracy",
                                    "attack_success_rate",
                                    "precision_macro",
                                    "recall_macro",
                                    "f1_macro",
                                    "max_violation",
                                    "violations",
                                    "nan_count",
                                    "top1_agreement",
                                    "flips",
                                    "flips_outside_margin",
                                    "logit_diff_max",
                                    "logit_diff_mean",
                                    "logit_diff_p99",
                                    "latency_ms_p50",
                                    "latency_ms_p90",
                                    "latency_ms_p99",
                                    "images_per_second",
                                    "seconds",
                                    "agrees",
                                    "logit_diff_p99_relative",
                                    "transfer_accuracy",
                                    "transfer_success_rate"};

// A missing value is null.
template <typename Value>
Json or_null(const std::optional<Value>& value) {
    return value ? Json(*value) : Json(nullptr);
}

// An undefined or infinite number is null.
Json or_null(double number) {
    return std::isfinite(number) ? Json(number) : Json(nullptr);
}

// JSON has no infinity: where one says something it is a text.
Json with_infinity(double number) {
    return std::isinf(number) && number > 0 ? Json("inf") : or_null(number);
}

std::string hdf5_version() {
    unsigned major = 0;
    unsigned minor = 0;
    unsigned release = 0;
    H5get_libversion(&major, &minor, &release);
    return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

// The largest resident memory of this program. getrusage would count that of the program it was started from,
// too.
std::optional<double> peak_memory_mb() {
    std::ifstream status("/proc/self/status");
    constexpr std::string_view key = "VmHWM:";
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with(key)) return std::stod(line.substr(key.size())) / 1024.0;  // counted in KiB
    }
    return std::nullopt;
}

Json per_class(const std::vector<ClassScores>& report, const std::vector<std::string>& class_names) {
    Json rows = Json::array();
    for (std::size_t k = 0; k < report.size(); ++k) {
        rows.push_back({{"class", class_names[k]},
                        {"precision", or_null(report[k].precision)},
                        {"recall", or_null(report[k].recall)},
                        {"f1", or_null(report[k].f1)},
                        {"support", report[k].support}});
    }
    return rows;
}

Json confusion_rows(const Confusion& confusion) {
    Json rows = Json::array();
    for (std::size_t k = 0; k < confusion.classes(); ++k) rows.push_back(confusion.row(k));
    return rows;
}

Json flips(const std::vector<Flip>& found) {
    Json rows = Json::array();
    for (const Flip& flip : found) {
        rows.push_back({{"example", flip.example},
                        {"label", flip.label},
                        {"reference", flip.reference},
                        {"predicted", flip.predicted},
                        {"margin", with_infinity(flip.margin)}});
    }
    return rows;
}

void add_identity(Json& row, const Condition& condition) {
    row["name"] = condition.name;
    row["kind"] = to_string(condition.kind);
    row["attack"] = or_null(condition.attack);
    row["norm"] = condition.budget ? Json(to_string(condition.budget->norm)) : Json(nullptr);
    row["eps"] = condition.budget ? Json(condition.budget->eps) : Json(nullptr);
    row["eps_text"] = condition.budget ? Json(condition.budget->text) : Json(nullptr);
    row["target_class"] = or_null(condition.target_class);
    row["digest"] = condition.digest;
    row["n"] = condition.size();
}

// What images that were made against another network say of this one is transfer, not robustness.
void add_attack(Json& row, const Outcome& outcome, bool transfer) {
    const Json none = nullptr;
    const Json accuracy = or_null(outcome.robust_accuracy());
    const Json success = or_null(outcome.attack_success_rate());
    const bool transferred = transfer && outcome.condition().budget;
    row["robust_accuracy"] = transferred ? none : accuracy;
    row["attack_success_rate"] = transferred ? none : success;
    row["transfer_accuracy"] = transferred ? accuracy : none;
    row["transfer_success_rate"] = transferred ? success : none;
}

void add_metrics(Json& row, const Outcome& outcome, const std::vector<std::string>& class_names,
                 bool transfer) {
    const auto report = class_report(outcome.confusion());
    const MacroScores macro = macro_scores(report);
    row["accuracy"] = or_null(outcome.accuracy());
    add_attack(row, outcome, transfer);
    row["precision_macro"] = or_null(macro.precision);
    row["recall_macro"] = or_null(macro.recall);
    row["f1_macro"] = or_null(macro.f1);
    row["max_violation"] = or_null(outcome.max_violation());
    row["violations"] = outcome.violations();
    row["nan_count"] = outcome.nan_count();
    row["per_class"] = per_class(report, class_names);
    row["confusion"] = confusion_rows(outcome.confusion());
}

Json difference_json(const LogitDifference& difference) {
    return {{"max", with_infinity(difference.max)},
            {"mean", with_infinity(difference.mean)},
            {"p99", with_infinity(difference.p99)},
            {"p99_relative", with_infinity(difference.p99_relative)}};
}

void add_agreement(Json& row, const Outcome& outcome, const Rule& rule) {
    const auto& agreement = outcome.agreement();
    const auto reasons = outcome.disagreements(rule);
    row["top1_agreement"] = agreement ? Json(agreement->top1()) : Json(nullptr);
    row["flips"] = agreement ? flips(agreement->flips()) : Json(nullptr);
    row["flips_outside_margin"] = agreement ? Json(agreement->flips_outside(rule.margin)) : Json(nullptr);
    row["logit_diff"] = agreement ? difference_json(agreement->difference()) : Json(nullptr);
    row["infinite"] = agreement ? Json(agreement->infinite()) : Json(nullptr);
    row["matches"] = or_null(outcome.matches(rule));
    const bool judged = agreement && rule.expects_reference;
    row["agrees"] = judged || !reasons.empty() ? Json(reasons.empty()) : Json(nullptr);
    row["reasons"] = reasons;
}

void add_timing(Json& row, const Outcome& outcome) {
    const auto& latencies = outcome.latencies();
    row["latency_ms"] = {{"p50", quantile(latencies, 0.5)},
                         {"p90", quantile(latencies, 0.9)},
                         {"p99", quantile(latencies, 0.99)}};
    row["images_per_second"] = static_cast<double>(outcome.condition().size()) / outcome.seconds;
    row["seconds"] = outcome.seconds;
}

// A cell of the table: lists as their length, text quoted where it must be, nothing for null.
std::string csv_cell(const Json& value) {
    if (value.is_null()) return "";
    if (value.is_array()) return std::to_string(value.size());
    if (!value.is_string()) return value.dump();
    std::string text = value.get<std::string>();
    if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char character : text) quoted.append(character == '"' ? 2 : 1, character);
    quoted += '"';
    return quoted;
}

// "logit_diff_max" is the member "max" of "logit_diff".
const Json& csv_value(const Json& row, const std::string& column) {
    if (row.contains(column)) return row.at(column);
    static const Json missing = nullptr;
    for (const std::string group : {"logit_diff", "latency_ms"}) {
        if (column.starts_with(group + "_") && !row.at(group).is_null())
            return row.at(group).at(column.substr(group.size() + 1));
    }
    return missing;
}

}  // namespace

bool agrees(const Scores& scores) {
    return std::ranges::all_of(
        scores.outcomes, [&](const Outcome& outcome) { return outcome.disagreements(scores.rule).empty(); });
}

Json to_json(const Scores& scores, const Bundle& bundle, const ScoreConfig& config) {
    Json report;
    report["schema_version"] = kReportVersion;
    report["versions"] = {
        {"harness_eval", HARNESS_EVAL_VERSION}, {"onnxruntime", runtime_version()}, {"hdf5", hdf5_version()}};
    report["model"] = {{"path", config.model.string()}, {"model_sha256", or_null(scores.model_sha256)}};
    report["bundle"] = {{"path", config.bundle.string()},
                        {"model", bundle.model()},
                        {"model_sha256", bundle.model_sha256()},
                        {"dataset", bundle.dataset()},
                        {"class_names", bundle.class_names()}};
    report["runtime"] = {{"provider", scores.provider},
                         {"provider_options", config.runtime.provider_options},
                         {"threads", scores.threads},
                         {"optimization_level", config.runtime.optimization_level},
                         {"batch", scores.batch}};
    report["rule"] = {{"margin", config.rule.margin}, {"quantile_bound", config.rule.quantile_bound}};
    const bool agreeing = agrees(scores);
    report["judged"] = scores.rule.expects_reference;
    report["transfer"] = scores.transfer;
    report["agrees"] = scores.rule.expects_reference || !agreeing ? Json(agreeing) : Json(nullptr);
    report["conditions"] = Json::array();
    for (const Outcome& outcome : scores.outcomes) {
        Json row;
        add_identity(row, outcome.condition());
        add_metrics(row, outcome, bundle.class_names(), scores.transfer);
        add_agreement(row, outcome, scores.rule);
        add_timing(row, outcome);
        report["conditions"].push_back(std::move(row));
    }
    report["seconds"] = scores.seconds;
    report["peak_memory_mb"] = or_null(peak_memory_mb());
    return report;
}

std::string to_csv(const Json& report) {
    std::string table;
    const auto separator = [](std::size_t column) { return column + 1 < kCsvColumns.size() ? ',' : '\n'; };
    for (std::size_t i = 0; i < kCsvColumns.size(); ++i) (table += kCsvColumns[i]) += separator(i);
    for (const Json& row : report.at("conditions")) {
        for (std::size_t i = 0; i < kCsvColumns.size(); ++i)
            (table += csv_cell(csv_value(row, kCsvColumns[i]))) += separator(i);
    }
    return table;
}

}  // namespace harness
