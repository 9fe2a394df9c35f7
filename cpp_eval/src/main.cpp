// Parses, validates, calls, prints.
#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <new>
#include <optional>
#include <type_traits>

#include "error.hpp"
#include "images/classify.hpp"
#include "scoring/report.hpp"
#include "scoring/score.hpp"
#include "supervisor.hpp"

namespace {

constexpr int kAgree = 0;
constexpr int kDisagree = 1;
constexpr int kBadInput = 2;

const std::map<std::string, harness::Judge> kJudges = {{"auto", harness::Judge::automatic},
                                                       {"always", harness::Judge::always},
                                                       {"never", harness::Judge::never}};

constexpr double kLongestTimeout = 1e6;
constexpr double kLargest = std::numeric_limits<double>::max();

// What the user reads of an error: one line.
std::string complaint(const std::string& message) {
    return "harness_eval: " + harness::one_line(message) + '\n';
}

// Takes a plain decimal number from `low` to `high`. What CLI11 offers lets NaN pass, and reads -1 as a huge
// count and 010 as 8.
template <typename Number>
CLI::Validator number_from(Number low, Number high, const std::string& range) {
    const std::string expected = (std::is_integral_v<Number> ? "a whole number " : "a number ") + range;
    const auto check = [low, high, expected](std::string& text) -> std::string {
        Number value{};
        const char* end = text.data() + text.size();
        const auto [rest, error] = std::from_chars(text.data(), end, value);
        const bool fits = error == std::errc{} && rest == end && low <= value && value <= high;
        if (!fits) return "expected " + expected + ", got " + text;
        if constexpr (std::is_integral_v<Number>) text = std::to_string(value);
        return "";
    };
    return CLI::Validator(check, range);
}

void add_timeout(CLI::App& command, double& seconds) {
    command.add_option("--timeout", seconds, "Seconds that the whole work may take; 0: any time")
        ->transform(number_from(0.0, kLongestTimeout, "from 0 to 1000000"))
        ->capture_default_str();
}

void add_runtime_options(CLI::App& command, harness::RuntimeOptions& options) {
    command.add_option("--provider", options.provider, "Execution provider: cpu, cuda, or its own name")
        ->capture_default_str();
    command.add_option_function<std::vector<std::string>>(
        "--provider-option",
        [&options](const std::vector<std::string>& pairs) {
            for (const std::string& pair : pairs) {
                const auto equals = pair.find('=');
                if (equals == std::string::npos)
                    throw CLI::ValidationError("--provider-option", "expected KEY=VALUE, got " + pair);
                options.provider_options[pair.substr(0, equals)] = pair.substr(equals + 1);
            }
        },
        "KEY=VALUE for the provider; may be repeated");
    command
        .add_option("--threads", options.threads,
                    "Threads inside an operator; 0: as many as the process may use")
        ->transform(number_from(0, 1024, "from 0 to 1024"))
        ->capture_default_str();
    command.add_option("--optimization-level", options.optimization_level, "Graph optimisation")
        ->check(CLI::IsMember(harness::optimization_levels()))
        ->capture_default_str();
}

CLI::App* add_score(CLI::App& app, harness::ScoreConfig& config) {
    CLI::App* command = app.add_subcommand("score", "Score the stored inputs of a bundle on an ONNX model");
    command->add_option("--model", config.model, "ONNX file: float (N, C, H, W) in [0,1] to logits (N, K)")
        ->required();
    command->add_option("--bundle", config.bundle, "HDF5 file of stored inputs, labels and reference logits")
        ->required();
    command->add_option("--out", config.out, "Write the JSON report here instead of to stdout");
    command->add_option("--csv", config.csv, "Write a table with one row a condition here");
    command
        ->add_option("--batch", config.batch, "Images a pass; a model with a fixed batch size keeps its own")
        ->transform(number_from(1, 65536, "from 1 to 65536"))
        ->capture_default_str();
    command
        ->add_option("--margin", config.rule.margin,
                     "Excuse flips where the reference preferred its class by at most this")
        ->transform(number_from(0.0, kLargest, ">= 0"))
        ->capture_default_str();
    command
        ->add_option("--quantile-bound", config.rule.quantile_bound,
                     "Bound of the 99th percentile of the logit difference")
        ->transform(number_from(0.0, kLargest, ">= 0"))
        ->capture_default_str();
    command
        ->add_option_function<std::string>(
            "--judge", [&config](const std::string& when) { config.judge = kJudges.at(when); },
            "Expect the bundle's logits: auto (unless the file says that it is another model), always, never")
        ->check(CLI::IsMember(kJudges))
        ->default_str("auto");
    command->add_flag("--quiet", config.quiet, "No progress on stderr");
    add_runtime_options(*command, config.runtime);
    return command;
}

CLI::App* add_classify(CLI::App& app, harness::ClassifyConfig& config) {
    CLI::App* command =
        app.add_subcommand("classify", "Classify JPEG and PNG files with a deployment graph; JSON lines");
    command
        ->add_option("--model", config.model,
                     "ONNX file: uint8 (1, height, width, 3) to probabilities (1, K)")
        ->required();
    command->add_option("images", config.images, "Image files, or folders to search for .jpg, .jpeg and .png")
        ->required();
    command->add_option("--top", config.top, "Print only this many of the likeliest classes; 0: all")
        ->transform(number_from(0, 1'000'000, "from 0 to 1000000"))
        ->capture_default_str();
    command->add_flag("--quiet", config.quiet, "No progress on stderr");
    add_runtime_options(*command, config.runtime);
    return command;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.close();
    if (!file) throw harness::BadInput(path.string() + ": expected a file that can be written");
}

// An hour of scoring must not end at a folder that does not exist.
void check_folder_of(const std::optional<std::filesystem::path>& path) {
    if (!path) return;
    const auto folder = path->has_parent_path() ? path->parent_path() : ".";
    if (!std::filesystem::is_directory(folder) || std::filesystem::is_directory(*path))
        throw harness::BadInput(path->string() + ": expected a file that can be written");
}

// What was printed may still be in a buffer, and the disk behind it full.
int printed(int code) {
    std::cout.flush();
    if (!std::cout) throw harness::BadInput("stdout: expected to take the whole result, it could not");
    return code;
}

int run_score(const harness::ScoreConfig& config) {
    check_folder_of(config.out);
    check_folder_of(config.csv);
    const auto bundle = harness::Bundle::open(config.bundle);
    const auto scores = harness::score(config, bundle);
    const auto report = harness::to_json(scores, bundle, config);
    const std::string text =
        report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
    if (config.csv) write_file(*config.csv, harness::to_csv(report));
    if (config.out) {
        write_file(*config.out, text);
    } else {
        std::cout << text;
    }
    if (config.judge == harness::Judge::automatic && !scores.rule.expects_reference) {
        std::fputs(
            complaint(config.model.string() + ": another model than the bundle's, by its model_sha256; "
                                              "agreement is not judged (--judge always does)")
                .c_str(),
            stderr);
    }
    return printed(harness::agrees(scores) ? kAgree : kDisagree);
}

int run_classify(const harness::ClassifyConfig& config) {
    return printed(harness::classify(config, std::cout).unreadable == 0 ? kAgree : kBadInput);
}

// Turns what goes wrong into one line and an exit code.
int guarded(const std::function<int()>& work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        std::fputs(complaint("expected a model and batches that fit into memory").c_str(), stderr);
    } catch (const std::exception& error) {
        std::fputs(complaint(error.what()).c_str(), stderr);
    }
    return kBadInput;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Scores stored inputs, and classifies images, on ONNX models.\n"
        "Exit codes: 0 fine, 1 the runtimes disagree, 2 bad input.");
    app.set_version_flag("--version", HARNESS_EVAL_VERSION);
    app.require_subcommand(1);
    app.failure_message([](const CLI::App*, const CLI::Error& error) { return complaint(error.what()); });
    harness::ScoreConfig score_config;
    harness::ClassifyConfig classify_config;
    double timeout = 0;
    CLI::App* score = add_score(app, score_config);
    add_timeout(*score, timeout);
    add_timeout(*add_classify(app, classify_config), timeout);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? kAgree : kBadInput;
    }
    const auto work = [&] {
        return score->parsed() ? run_score(score_config) : run_classify(classify_config);
    };
    const auto limit = timeout > 0 ? std::optional{std::chrono::duration<double>{timeout}} : std::nullopt;
    return guarded([&] { return harness::supervised([&] { return guarded(work); }, limit); });
}
