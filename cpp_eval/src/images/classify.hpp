// `harness_eval classify`: image files through a deployment graph.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <vector>

#include "model.hpp"

namespace harness {

struct ClassifyConfig {
    /// uint8 (N, height, width, 3) in, probabilities (N, K) out; class names in its metadata.
    std::filesystem::path model;
    /// Image files, and folders that are searched for them.
    std::vector<std::filesystem::path> images;
    RuntimeOptions runtime;
    /// How many of the likeliest classes are printed; 0: all.
    std::size_t top = 0;
    bool quiet = false;
};

/// What became of the files.
struct ClassifyCounts {
    std::size_t classified = 0;
    std::size_t unreadable = 0;
};

/// Prints one JSON object a file to `out`, in the order of the files: {"file", "class", "index",
/// "probability", "probabilities"}, or {"file", "error"}. Throws BadInput where nothing can be classified at
/// all.
ClassifyCounts classify(const ClassifyConfig& config, std::ostream& out);

/// The files named, and the JPEG and PNG files, by their endings, in and below the folders named, sorted
/// within each. A folder that cannot be read stands for itself.
[[nodiscard]] std::vector<std::filesystem::path> find_images(const std::vector<std::filesystem::path>& roots);

}  // namespace harness
