// A network that maps images in [0,1] to logits.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "bundle/bundle.hpp"
#include "model.hpp"

namespace harness {

/// Checks a model's input (N, C, H, W) and output (N, K) against images and classes, and runs it.
class Classifier {
  public:
    /// Throws BadInput where they do not fit.
    Classifier(Model& model, ImageShape shape, std::size_t classes);

    /// The batch size to use where `wanted` is asked for: a model with a fixed one has its own.
    [[nodiscard]] std::size_t batch_size(std::size_t wanted) const {
        return fixed_batch_ > 0 ? fixed_batch_ : wanted;
    }

    /// Returns logits (count, K), valid until the next call. `x` holds images (count, C, H, W).
    [[nodiscard]] std::span<const float> logits(std::span<const float> x, std::size_t count);

  private:
    [[nodiscard]] std::span<const float> run(std::span<const float> x, std::size_t count);

    Model& model_;
    ImageShape shape_;
    std::size_t classes_;
    std::size_t fixed_batch_ = 0;
    std::vector<float> padded_;
    Ort::Value output_{nullptr};
};

}  // namespace harness
