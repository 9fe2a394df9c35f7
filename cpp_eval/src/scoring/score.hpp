// `harness_eval score`: every condition of a bundle on an ONNX model.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"
#include "model.hpp"
#include "scoring/classifier.hpp"
#include "scoring/outcome.hpp"

namespace harness {

/// Whether the reference's logits are expected of the model: always, never, or unless the file says that it
/// is another model than the bundle's.
enum class Judge { automatic, always, never };

struct ScoreConfig {
    std::filesystem::path model;
    std::filesystem::path bundle;
    /// Where the report goes; stdout if none.
    std::optional<std::filesystem::path> out;
    /// Where a table with one row a condition goes.
    std::optional<std::filesystem::path> csv;
    RuntimeOptions runtime;
    std::size_t batch = 32;
    /// Its `expects_reference` is set by `judge`.
    Rule rule;
    Judge judge = Judge::automatic;
    bool quiet = false;
};

/// All that a report says.
struct Scores {
    /// What the scores were made with, for the report.
    std::string provider;
    int threads;
    std::size_t batch;
    /// The model's hash by its own metadata, if it has any.
    std::optional<std::string> model_sha256;
    /// What agreement was judged by.
    Rule rule;
    /// Whether the attacked images were made against another network, as far as is known: the file has
    /// another hash than the bundle, or none, and does not give the bundle's logits.
    bool transfer;
    /// One outcome a condition, in the bundle's order.
    std::vector<Outcome> outcomes;
    double seconds;
};

/// The scoring of a bundle, batch by batch, while a thread reads ahead.
class Scoring {
  public:
    /// Throws BadInput where model and bundle do not fit. The bundle must outlive this.
    Scoring(const ScoreConfig& config, const Bundle& bundle);
    Scoring(const Scoring&) = delete;
    Scoring& operator=(const Scoring&) = delete;
    ~Scoring();

    /// Scores the next batch and returns what its condition has come to; null at the end. Throws BadInput.
    const Outcome* step();
    /// What runs the model.
    [[nodiscard]] Classifier& classifier();
    /// Images of a full batch.
    [[nodiscard]] std::size_t batch_size() const;
    /// Returns what was found, once.
    [[nodiscard]] Scores finish();

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Scores the bundle. Throws BadInput.
[[nodiscard]] Scores score(const ScoreConfig& config, const Bundle& bundle);

}  // namespace harness
