#include "scoring/score.hpp"

#include <algorithm>
#include <numeric>

#include "bundle/condition_reader.hpp"
#include "class_names.hpp"
#include "clock.hpp"
#include "error.hpp"
#include "prefetch.hpp"
#include "progress.hpp"
#include "scoring/classifier.hpp"

namespace harness {

namespace {

constexpr std::size_t kBatchesAhead = 2;
constexpr std::size_t kLargestBatch = std::size_t{1} << 28;  // values; a few batches are in memory at a time

// Clean conditions come first: what they find is needed to count an attack's successes.
std::vector<std::size_t> scoring_order(const std::vector<Condition>& conditions) {
    std::vector<std::size_t> order(conditions.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_partition(order.begin(), order.end(),
                          [&](std::size_t index) { return conditions[index].kind == Kind::clean; });
    return order;
}

// How many images a pass takes: no more than the longest condition has, unless the model's batch size is
// fixed.
std::size_t batch_size(const ScoreConfig& config, const Bundle& bundle, const Classifier& classifier) {
    const auto longest = std::ranges::max_element(bundle.conditions(), {}, &Condition::size);
    const std::size_t size = classifier.batch_size(std::min(config.batch, longest->size()));
    const std::size_t most = kLargestBatch / bundle.shape().size();
    if (size <= most) return size;
    throw BadInput(bundle.place() + ": expected batches of at most " + std::to_string(most) + " images of " +
                   to_string(bundle.shape()) + ", got " + std::to_string(size));
}

// Produces the batches of all conditions, one condition after the other.
class BatchSource {
  public:
    BatchSource(const Bundle& bundle, std::vector<std::size_t> order, std::size_t size)
        : bundle_(bundle), order_(std::move(order)), size_(size) {}

    bool next(Batch& batch) {
        while (!reader_ || !reader_->read(batch, size_)) {
            if (next_ == order_.size()) return false;
            reader_.emplace(bundle_, order_[next_++]);
        }
        return true;
    }

  private:
    const Bundle& bundle_;
    std::vector<std::size_t> order_;
    std::size_t size_;
    std::size_t next_ = 0;
    std::optional<ConditionReader> reader_;
};

// A file without a hash was named together with the bundle: it is taken for the bundle's model.
Rule rule_for(const ScoreConfig& config, const Bundle& bundle, const std::optional<std::string>& found) {
    Rule rule = config.rule;
    const bool other = found && !bundle.model_sha256().empty() && *found != bundle.model_sha256();
    rule.expects_reference = config.judge == Judge::always || (config.judge == Judge::automatic && !other);
    return rule;
}

// Whether the attacked images were made against another network than this file's, as far as is known.
bool is_transfer(const Bundle& bundle, const std::optional<std::string>& found, const Rule& rule,
                 const std::vector<Outcome>& outcomes) {
    if (found && !found->empty() && *found == bundle.model_sha256()) return false;
    std::size_t matching = 0;
    for (const Outcome& outcome : outcomes) {
        const auto matches = outcome.matches(rule);
        if (matches == false) return true;
        if (matches) ++matching;
    }
    return matching == 0;
}

// The first pass allocates and tunes; it is not timed.
void warm_up(Classifier& classifier, const ImageShape& shape, std::size_t batch) {
    const std::vector<float> grey(batch * shape.size(), 0.5f);
    static_cast<void>(classifier.logits(grey, batch));
}

}  // namespace

struct Scoring::State {
    State(const ScoreConfig& wanted, const Bundle& scored)
        : config(wanted),
          bundle(scored),
          model(config.model, config.runtime),
          classifier(model, bundle.shape(), bundle.class_names().size()),
          progress(!config.quiet) {
        require_class_names(model, bundle.class_names());
        size = harness::batch_size(config, bundle, classifier);
        for (const Condition& condition : bundle.conditions())
            outcomes.emplace_back(condition, bundle.class_names().size());
        source.emplace(bundle, scoring_order(bundle.conditions()), size);
        batches.emplace([this](Batch& batch) { return source->next(batch); }, kBatchesAhead);
        warm_up(classifier, bundle.shape(), size);  // while the first batches are read
        asked = Clock::now();
    }

    const Clock::time_point started = Clock::now();
    ScoreConfig config;
    const Bundle& bundle;
    Model model;
    Classifier classifier;
    std::size_t size = 0;
    std::vector<Outcome> outcomes;
    Progress progress;
    Clock::time_point asked;
    std::optional<BatchSource> source;
    std::optional<Prefetcher<Batch>> batches;  // last: its thread ends before the source is destroyed
};

Scoring::Scoring(const ScoreConfig& config, const Bundle& bundle)
    : state_(std::make_unique<State>(config, bundle)) {}

Scoring::~Scoring() = default;

const Outcome* Scoring::step() {
    State& state = *state_;
    const Batch* const batch = state.batches->next();
    if (batch == nullptr) return nullptr;
    const auto began = Clock::now();
    const auto logits = state.classifier.logits(batch->x, batch->count);
    const double taken = seconds_since(began);
    Outcome& outcome = state.outcomes[batch->condition];
    const Condition& condition = outcome.condition();
    const auto* clean_correct = condition.attacked() ? &state.outcomes[*condition.clean].correct() : nullptr;
    outcome.add(*batch, logits, clean_correct, taken);
    outcome.seconds += seconds_since(state.asked);
    state.asked = Clock::now();
    state.progress.update(condition.name, batch->first + batch->count, condition.size());
    return &outcome;
}

Classifier& Scoring::classifier() {
    return state_->classifier;
}

std::size_t Scoring::batch_size() const {
    return state_->size;
}

Scores Scoring::finish() {
    State& state = *state_;
    const auto sha256 = state.model.metadata("model_sha256");
    const Rule rule = rule_for(state.config, state.bundle, sha256);
    const bool transfer = is_transfer(state.bundle, sha256, rule, state.outcomes);
    return {.provider = state.model.provider(),
            .threads = state.model.threads(),
            .batch = state.size,
            .model_sha256 = sha256,
            .rule = rule,
            .transfer = transfer,
            .outcomes = std::move(state.outcomes),
            .seconds = seconds_since(state.started)};
}

Scores score(const ScoreConfig& config, const Bundle& bundle) {
    Scoring scoring(config, bundle);
    while (scoring.step() != nullptr) continue;
    return scoring.finish();
}

}  // namespace harness
