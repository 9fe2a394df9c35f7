// The class names in an ONNX file's metadata.
#pragma once

#include <string>
#include <vector>

#include "model.hpp"

namespace harness {

/// The names in the order of the outputs; empty where the file has none. Throws BadInput.
[[nodiscard]] std::vector<std::string> class_names_of(Model& model);

/// Throws BadInput where the file has names, and they are not these in this order.
void require_class_names(Model& model, const std::vector<std::string>& expected);

}  // namespace harness
