// Streaming the images of a condition, measured and checked on the way.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "bundle/bundle.hpp"
#include "bundle/rows.hpp"

namespace harness {

/// Consecutive examples of one condition.
struct Batch {
    /// Index in Bundle::conditions.
    std::size_t condition = 0;
    /// Index of the first example, and how many.
    std::size_t first = 0;
    std::size_t count = 0;
    /// Images (count, C, H, W).
    std::vector<float> x;
    /// Reference logits (count, K); empty where there are none.
    std::vector<float> logits;
    /// How far each image lies outside the ball or [0,1]; 0 is inside. Outside [0,1] alone where no ball is
    /// known.
    std::vector<double> violations;
};

/// Reads one condition front to back. Memory is that of a batch.
class ConditionReader {
  public:
    ConditionReader(const Bundle& bundle, std::size_t condition);

    /// Fills `batch` with the next examples, at most `size`. Returns false at the end.
    /// Throws BadInput where the file is damaged, a value is not finite, or an image is not in [0,1].
    [[nodiscard]] bool read(Batch& batch, std::size_t size);

  private:
    void read_images(Batch& batch, std::size_t start, std::size_t count);
    [[nodiscard]] double moved(std::span<const float> x, std::size_t example);
    void read_logits(Batch& batch);
    [[nodiscard]] double violation(std::span<const float> x, std::size_t example);

    const Condition& condition_;
    std::size_t index_;
    std::size_t classes_;
    std::size_t next_ = 0;
    hdf5::Rows x_;
    std::optional<hdf5::Rows> logits_;
    std::optional<hdf5::Rows> clean_x_;
    std::vector<float> clean_;  // the image that was read last
};

}  // namespace harness
