#include <cmath>

#include "scoring/report.hpp"
#include "scoring/score.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

const std::filesystem::path kFixtures = HARNESS_EVAL_FIXTURES;

ScoreConfig config_for(const std::string& model, const std::string& bundle = "hand.h5") {
    ScoreConfig config;
    config.model = kFixtures / "models" / model;
    config.bundle = kFixtures / "bundles" / bundle;
    config.runtime.threads = 1;
    config.quiet = true;
    return config;
}

nlohmann::ordered_json report_of(const ScoreConfig& config) {
    const auto bundle = Bundle::open(config.bundle);
    return to_json(score(config, bundle), bundle, config);
}

std::string score_error(const ScoreConfig& config) {
    return error_of([&config] { static_cast<void>(report_of(config)); });
}

}  // namespace

// The model hands the pixels on as logits, so everything can be worked out by hand.
TEST_CASE("a bundle whose numbers are known by hand") {
    const auto report = report_of(config_for("flatten.onnx"));
    const auto& clean = report["conditions"][0];
    CHECK(clean["accuracy"] == 0.75);
    CHECK(clean["confusion"] == nlohmann::json{{1, 0, 0}, {0, 1, 0}, {0, 1, 1}});
    CHECK(clean["precision_macro"].get<double>() == Approx(2.5 / 3));
    CHECK(clean["f1_macro"].get<double>() == Approx((1 + 4.0 / 3) / 3));
    CHECK(clean["top1_agreement"] == 0.75);
    REQUIRE(clean["flips"].size() == 1);
    CHECK(clean["flips"][0]["example"] == 3);
    CHECK(clean["flips"][0]["margin"].get<double>() == Approx(0.1));
    CHECK(clean["agrees"] == false);

    const auto& pgd = report["conditions"][1];
    CHECK(pgd["accuracy"] == 0.5);
    CHECK(pgd["robust_accuracy"] == 0.5);
    CHECK(pgd["attack_success_rate"].get<double>() == Approx(1.0 / 3));
    CHECK(pgd["violations"] == 1);
    CHECK(pgd["max_violation"].get<double>() == Approx(0.01).epsilon(1e-4));
    CHECK(pgd["logit_diff"]["max"] == 0.0);
    CHECK(pgd["reasons"].size() == 1);

    const auto& trigger = report["conditions"][2];
    CHECK(trigger["attack_success_rate"] == 0.5);
    CHECK(trigger["robust_accuracy"].get<double>() == Approx(2.0 / 3));
    CHECK(trigger["top1_agreement"].is_null());
    CHECK(trigger["agrees"].is_null());
    CHECK(report["agrees"] == false);
}

TEST_CASE("the batch size changes nothing but the timing") {
    auto config = config_for("flatten.onnx");
    auto whole = report_of(config);
    config.batch = 1;
    auto single = report_of(config);
    for (auto* report : {&whole, &single}) {
        for (auto& row : (*report)["conditions"]) {
            for (const char* timing : {"latency_ms", "images_per_second", "seconds"}) row.erase(timing);
        }
    }
    CHECK(whole["conditions"] == single["conditions"]);
}

TEST_CASE("a model with a batch size of its own keeps it, the last batch is filled up") {
    const auto report = report_of(config_for("fixed_batch.onnx"));
    CHECK(report["runtime"]["batch"] == 3);
    CHECK(report["conditions"][0]["accuracy"] == 0.75);
}

TEST_CASE("a model whose output has no declared shape is scored all the same") {
    CHECK(report_of(config_for("undeclared_output.onnx"))["conditions"][0]["accuracy"] == 0.75);
}

TEST_CASE("logits that are NaN are counted") {
    const auto report = report_of(config_for("nan.onnx"));
    CHECK(report["conditions"][0]["nan_count"] == 4);
    CHECK(report["conditions"][0]["agrees"] == false);
    CHECK(report["conditions"][0]["logit_diff"]["max"].is_null());
}

TEST_CASE("infinities that the reference does not have are told as such") {
    const auto report = report_of(config_for("log.onnx"));
    CHECK(report["conditions"][0]["nan_count"] == 0);
    CHECK(report["conditions"][0]["infinite"] == 2);
    CHECK(report["conditions"][0]["logit_diff"]["max"] == "inf");
    CHECK(report["conditions"][0]["agrees"] == false);
    CHECK(contains(to_csv(report), ",inf,"));
}

TEST_CASE(
    "on another network the attacked images give transfer accuracy, and a trigger what it gives anywhere") {
    const auto own = report_of(config_for("flatten.onnx"));
    CHECK(own["transfer"] == false);
    CHECK(own["conditions"][1]["transfer_accuracy"].is_null());
    for (const char* other : {"another.onnx", "log.onnx"}) {
        const auto report = report_of(config_for(other));
        CHECK(report["transfer"] == true);
        CHECK(report["conditions"][1]["robust_accuracy"].is_null());
        CHECK(report["conditions"][1]["attack_success_rate"].is_null());
        CHECK(report["conditions"][1]["transfer_accuracy"].is_number());
        CHECK(report["conditions"][1]["transfer_success_rate"].is_number());
        CHECK(report["conditions"][2]["robust_accuracy"].is_number());
    }
}

TEST_CASE("a file without a hash that gives the bundle's logits is the bundle's network") {
    CHECK(report_of(config_for("undeclared_output.onnx", "folder.h5"))["transfer"] == false);
}

TEST_CASE("a file as the installed onnx writes it by default is scored, or refused in one line") {
    const std::string message = score_error(config_for("newest.onnx"));
    INFO(message);
    if (message == "(no error)") {
        CHECK(report_of(config_for("newest.onnx"))["conditions"][0]["accuracy"] == 0.75);
    } else {
        CHECK(contains(message, "newest.onnx"));
        CHECK_FALSE(contains(message, "\n"));
    }
}

TEST_CASE("the model's hash is handed on") {
    CHECK(report_of(config_for("flatten.onnx"))["model"]["model_sha256"] == "ab12");
    CHECK(report_of(config_for("log.onnx"))["model"]["model_sha256"].is_null());
}

TEST_CASE("a file that says it is another model is scored, and not judged unless that is asked for") {
    auto config = config_for("another.onnx");
    auto report = report_of(config);
    CHECK(report["judged"] == false);
    CHECK(report["conditions"][0]["flips"].size() == 1);
    CHECK(report["conditions"][0]["agrees"].is_null());
    CHECK(report["conditions"][0]["reasons"].empty());
    CHECK(report["conditions"][1]["agrees"] == false);  // its images leave the ball, whoever classifies them
    config.judge = Judge::always;
    report = report_of(config);
    CHECK(report["judged"] == true);
    CHECK(report["conditions"][0]["agrees"] == false);
}

TEST_CASE("agreement that is not judged is neither true nor false") {
    auto config = config_for("flatten.onnx", "folder.h5");
    CHECK(report_of(config)["agrees"] == true);
    config.judge = Judge::never;
    CHECK(report_of(config)["agrees"].is_null());
    config.model = kFixtures / "models" / "nan.onnx";
    CHECK(report_of(config)["agrees"] == false);  // NaN needs no reference
}

TEST_CASE("of several outputs the first that holds logits of the bundle's classes counts") {
    CHECK(report_of(config_for("two_outputs.onnx"))["conditions"][0]["accuracy"] == 0.75);
}

TEST_CASE("a model whose axes are left open is scored all the same") {
    CHECK(report_of(config_for("open_axes.onnx"))["conditions"][0]["accuracy"] == 0.75);
}

TEST_CASE("every provider that the library lists can be asked for by that name") {
    RuntimeLibrary library;
    for (const std::string& name : Ort::GetAvailableProviders()) {
        auto config = config_for("flatten.onnx");
        config.runtime.provider = name;
        const std::string message = score_error(config);
        INFO(name << ": " << message);
        CHECK_FALSE(contains(message, "Unknown provider"));
    }
}

TEST_CASE("a table has one row a condition and an empty cell for what is undefined") {
    const auto table = to_csv(report_of(config_for("flatten.onnx")));
    CHECK(std::count(table.begin(), table.end(), '\n') == 4);
    CHECK(contains(table, "\nclean,clean,,,,c0,4,0.75,,,"));
    CHECK(contains(table, "\n\"trigger, corner\",trigger,"));
}

TEST_CASE("a model that does not fit is one line that says what was expected") {
    const auto broken = json_of(kFixtures / "models" / "broken.json");
    REQUIRE(broken.size() >= 8);
    for (const auto& [file, expected] : broken.items()) {
        const std::string message = score_error(config_for(file));
        INFO(file << ": " << message);
        CHECK(contains(message, expected.get<std::string>()));
        CHECK(contains(message, file));
        CHECK_FALSE(contains(message, "\n"));
    }
}

TEST_CASE("a model cut off anywhere is refused in one line, but where only its metadata is missing") {
    const auto whole = bytes_of(kFixtures / "models" / "flatten.onnx");
    auto config = config_for("flatten.onnx");
    config.model = std::filesystem::temp_directory_path() / "harness_eval_cut.onnx";
    std::size_t refused = 0;
    for (std::size_t size = 0; size < whole.size(); ++size) {
        std::ofstream(config.model, std::ios::binary)
            .write(reinterpret_cast<const char*>(whole.data()), static_cast<std::streamsize>(size));
        const std::string message = score_error(config);
        if (message != "(no error)") ++refused;
        CHECK_FALSE(contains(message, "\n"));
    }
    CHECK(refused + 1 >= whole.size());
    std::filesystem::remove(config.model);
}

TEST_CASE("a provider that the library lacks is named, with those it has") {
    auto config = config_for("flatten.onnx");
    config.runtime.provider = "NoSuchExecutionProvider";
    const std::string message = score_error(config);
    CHECK(contains(message, "CPUExecutionProvider"));
    CHECK(contains(message, "NoSuchExecutionProvider"));
}

TEST_CASE("a batch is no larger than a condition, and may not be larger than memory") {
    auto config = config_for("flatten.onnx");
    config.batch = 65536;
    CHECK(report_of(config)["runtime"]["batch"] == 4);
    CHECK(contains(score_error(config_for("any_size.onnx", "large_images.h5")),
                   "expected batches of at most 4 images of 3 x 4729 x 4729, got 5"));
}
