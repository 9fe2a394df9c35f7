// Rows of a data set of floats.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "chunks.hpp"
#include "hdf5.hpp"

namespace harness::hdf5 {

class Rows {
  public:
    /// Throws BadInput where the data set is stored as no bundle is.
    explicit Rows(Object dataset);

    [[nodiscard]] const std::string& place() const { return dataset_.place; }

    /// Reads the rows [first, first + count); `out` holds as many. Throws BadInput.
    void read(std::uint64_t first, std::uint64_t count, std::span<float> out);

  private:
    Object dataset_;
    Chunks chunks_;
    bool as_stored_ = false;  // the file's floats are the machine's, in chunks of whole rows
};

}  // namespace harness::hdf5
