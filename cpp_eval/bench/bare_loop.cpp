// The yardstick of `harness_eval score`: a plain ONNX Runtime loop over tensors that are in memory already.
// Prints {"images", "seconds", "images_per_second", ...}; nothing is scored. With --in-turns a batch of that
// loop and one of `score` take turns in one process, whenever a line is read: a line {"condition", "bare",
// "score"} for each, images/s, until all of the bundle is scored.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "bundle/condition_reader.hpp"
#include "clock.hpp"
#include "error.hpp"
#include "scoring/classifier.hpp"
#include "scoring/score.hpp"

namespace {

struct Config {
    std::filesystem::path model;
    std::filesystem::path bundle;
    harness::RuntimeOptions runtime;
    std::size_t batch = 32;
    std::size_t images = 256;
    std::size_t repeats = 1;
    bool in_turns = false;
};

std::vector<harness::Batch> load(const harness::Bundle& bundle, std::size_t batch_size, std::size_t images) {
    harness::ConditionReader reader(bundle, 0);
    std::vector<harness::Batch> batches;
    std::size_t loaded = 0;
    for (harness::Batch batch; loaded < images && reader.read(batch, batch_size); loaded += batch.count)
        batches.push_back(batch);
    return batches;
}

// Runs so many batches, from the first one again where they are used up, and returns the number of images.
std::size_t run(harness::Classifier& classifier, const std::vector<harness::Batch>& batches,
                std::size_t count) {
    std::size_t images = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const harness::Batch& batch = batches[i % batches.size()];
        static_cast<void>(classifier.logits(batch.x, batch.count));
        images += batch.count;
    }
    return images;
}

nlohmann::ordered_json measure(const Config& config) {
    const auto bundle = harness::Bundle::open(config.bundle);
    harness::Model model(config.model, config.runtime);
    harness::Classifier classifier(model, bundle.shape(), bundle.class_names().size());
    const auto batches = load(bundle, classifier.batch_size(config.batch), config.images);
    run(classifier, batches, 1);

    const auto started = harness::Clock::now();
    const std::size_t images = run(classifier, batches, config.repeats * batches.size());
    const double seconds = harness::seconds_since(started);
    return {{"images", images},
            {"seconds", seconds},
            {"images_per_second", static_cast<double>(images) / seconds},
            {"batch", classifier.batch_size(config.batch)},
            {"threads", model.threads()},
            {"onnxruntime", harness::runtime_version()}};
}

// Both use the same session, as a second one would have threads of its own that wait in a loop. While the
// bare loop has its turn the reader stands still: it has read as far ahead as it may. A pass that is not
// timed comes first, as whoever wrote the line may have worked meanwhile, and emptied the caches.
void measure_in_turns(const Config& config) {
    const auto bundle = harness::Bundle::open(config.bundle);
    harness::ScoreConfig score;
    score.model = config.model;
    score.runtime = config.runtime;
    score.batch = config.batch;
    score.quiet = true;
    harness::Scoring scoring(score, bundle);
    const std::size_t size = scoring.batch_size();
    for (const harness::Condition& condition : bundle.conditions()) {
        if (condition.size() % size != 0)
            throw harness::BadInput(bundle.place() + ": expected conditions of a whole number of batches");
    }
    const auto batches = load(bundle, size, config.images);
    const auto rate = [size](harness::Clock::time_point start) {
        return static_cast<double>(size) / harness::seconds_since(start);
    };
    const auto bare = [&] {
        const auto started = harness::Clock::now();
        run(scoring.classifier(), batches, 1);
        return rate(started);
    };
    std::string line;
    for (bool bare_first = true; std::getline(std::cin, line); bare_first = !bare_first) {
        run(scoring.classifier(), batches, 1);
        const double before = bare_first ? bare() : 0;
        const auto started = harness::Clock::now();
        const harness::Outcome* const outcome = scoring.step();
        if (outcome == nullptr) return;
        const double scored = rate(started);
        const nlohmann::ordered_json turn = {{"condition", outcome->condition().name},
                                             {"bare", bare_first ? before : bare()},
                                             {"score", scored}};
        std::cout << turn.dump() << std::endl;
    }
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
    app.add_flag("--in-turns", config.in_turns,
                 "A batch of the loop and one of `score` for every line that is read");
    CLI11_PARSE(app, argc, argv);
    try {
        if (config.in_turns)
            measure_in_turns(config);
        else
            std::cout << measure(config).dump() << '\n';
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bare_loop: %s\n", error.what());
        return 2;
    }
}
