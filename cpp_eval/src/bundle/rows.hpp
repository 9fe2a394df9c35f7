// Rows of a data set of floats.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "bundle/chunks.hpp"
#include "bundle/hdf5.hpp"
#include "bundle/mapping.hpp"

namespace harness::hdf5 {

/// A row where it lies in the file.
struct StoredRow {
    Mapping mapping;
    std::span<const float> values;
};

class Rows {
  public:
    /// Throws BadInput where the data set is stored as no bundle is.
    explicit Rows(Object dataset);

    [[nodiscard]] const std::string& place() const { return dataset_.place; }

    /// Reads the rows [first, first + count); `out` holds as many. Throws BadInput.
    void read(std::uint64_t first, std::uint64_t count, std::span<float> out);

    /// Maps a row where it lies in the file, if nothing has to be done to its values.
    [[nodiscard]] std::optional<StoredRow> stored(std::uint64_t row) const;

  private:
    Object dataset_;
    Chunks chunks_;
    std::optional<int> descriptor_;  // none: no row can be mapped
    std::size_t row_bytes_ = 0;
    bool as_stored_ = false;  // the file's floats are the machine's, in chunks of whole rows
};

}  // namespace harness::hdf5
