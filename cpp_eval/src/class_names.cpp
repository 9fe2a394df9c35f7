#include "class_names.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "error.hpp"

namespace harness {

namespace {

std::string place_of(const Model& model) {
    return model.place() + ": metadata class_names";
}

}  // namespace

std::vector<std::string> class_names_of(Model& model) {
    const auto text = model.metadata("class_names");
    if (!text) return {};
    try {
        return nlohmann::json::parse(*text).get<std::vector<std::string>>();
    } catch (const nlohmann::json::exception&) {
        throw BadInput(place_of(model) + ": expected a JSON list of texts, got " + text->substr(0, 60));
    }
}

void require_class_names(Model& model, const std::vector<std::string>& expected) {
    const auto found = class_names_of(model);
    if (found.empty() || found == expected) return;
    if (found.size() != expected.size()) {
        throw BadInput(place_of(model) + ": expected the " + std::to_string(expected.size()) +
                       " names of the bundle, got " + std::to_string(found.size()));
    }
    const auto [ours, theirs] = std::ranges::mismatch(expected, found);
    throw BadInput(place_of(model) + ": expected the bundle's " + *ours + " as class " +
                   std::to_string(ours - expected.begin()) + ", got " + *theirs);
}

}  // namespace harness
