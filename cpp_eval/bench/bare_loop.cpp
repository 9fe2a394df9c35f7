// The yardstick of `harness_eval score`: a plain ONNX Runtime loop over tensors that are in memory already.
// Prints {"images", "seconds", "images_per_second", ...}; nothing is scored.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "classifier.hpp"
#include "condition_reader.hpp"

namespace {

struct Config {
    std::filesystem::path model;
    std::filesystem::path bundle;
    harness::RuntimeOptions runtime;
    std::size_t batch = 32;
    std::size_t images = 256;
    int repeats = 1;
};

std::vector<harness::Batch> load(const harness::Bundle& bundle, std::size_t batch_size, std::size_t images) {
    harness::ConditionReader reader(bundle, 0);
    std::vector<harness::Batch> batches;
    std::size_t loaded = 0;
    for (harness::Batch batch; loaded < images && reader.read(batch, batch_size); loaded += batch.count)
        batches.push_back(batch);
    return batches;
}

nlohmann::ordered_json measure(const Config& config) {
    using Clock = std::chrono::steady_clock;
    const auto bundle = harness::Bundle::open(config.bundle);
    harness::Model model(config.model, config.runtime);
    harness::Classifier classifier(model, bundle.shape(), bundle.class_names().size());
    const auto batches = load(bundle, classifier.batch_size(config.batch), config.images);
    static_cast<void>(classifier.logits(batches.front().x, batches.front().count));

    std::size_t images = 0;
    const auto started = Clock::now();
    for (int repeat = 0; repeat < config.repeats; ++repeat) {
        for (const harness::Batch& batch : batches) {
            static_cast<void>(classifier.logits(batch.x, batch.count));
            images += batch.count;
        }
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - started).count();
    return {{"images", images},
            {"seconds", seconds},
            {"images_per_second", static_cast<double>(images) / seconds},
            {"batch", classifier.batch_size(config.batch)},
            {"threads", model.threads()},
            {"onnxruntime", harness::runtime_version()}};
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Measures a bare ONNX Runtime loop on the first condition of a bundle, held in memory");
    Config config;
    app.add_option("--model", config.model, "ONNX file")->required();
    app.add_option("--bundle", config.bundle, "Bundle to take images from")->required();
    app.add_option("--threads", config.runtime.threads, "Threads inside an operator")->capture_default_str();
    app.add_option("--batch", config.batch, "Images a pass")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    app.add_option("--images", config.images, "Images held in memory")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    app.add_option("--repeats", config.repeats, "Passes over them")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        std::cout << measure(config).dump() << '\n';
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bare_loop: %s\n", error.what());
        return 2;
    }
}
