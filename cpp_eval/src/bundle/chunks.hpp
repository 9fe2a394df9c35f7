// The chunks of a data set: unpacked here, or checked before HDF5 unpacks them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bundle/hdf5.hpp"

namespace harness::hdf5 {

/// HDF5 takes it from the file how a chunk is packed and how large it is, and reads beyond the end of one
/// that unpacks to less than its share of the data set. This refuses such a chunk, and whatever a bundle does
/// not need: chunks that were never written, other packings than LZF and deflate, values that lie in other
/// files.
class Chunks {
  public:
    /// The data set has at least one axis. Throws BadInput where it is stored in another way.
    explicit Chunks(const Object& dataset);

    /// Checks the chunks that hold the rows [first, first + count), each once. Throws BadInput.
    void check(std::uint64_t first, std::uint64_t count);

    /// Whether every chunk holds whole rows, so that `read` can be called.
    [[nodiscard]] bool hold_rows() const;

    /// Reads the rows [first, first + count) past HDF5's filters and its cache, which copy every value twice:
    /// elements as they are in the file, into `out`, which is as long. Throws BadInput.
    void read(std::uint64_t first, std::uint64_t count, std::span<std::byte> out);

    /// Where a row begins in the file, if its chunk was left as it is. Call it where chunks hold whole rows.
    [[nodiscard]] std::optional<std::uint64_t> offset(std::uint64_t row) const;

  private:
    enum class Packing { none, lzf, deflate };

    void read_packing(hid_t properties);
    void unpack(const std::vector<hsize_t>& corner, std::span<std::byte> out);
    [[nodiscard]] bool unpack_packed(unsigned skipped, std::span<std::byte> out);
    [[nodiscard]] bool all_skipped(unsigned skipped) const;

    hid_t id_;
    std::string place_;
    std::vector<std::uint64_t> extent_;
    std::vector<hsize_t> chunk_;  // empty: not chunked
    std::size_t bytes_ = 0;       // of a chunk
    std::size_t element_ = 0;     // bytes of an element
    Packing packing_ = Packing::none;
    bool shuffled_ = false;
    std::vector<bool> checked_;  // by chunk along the first axis
    std::vector<std::byte> packed_;
    std::vector<std::byte> shuffled_bytes_;
    std::vector<std::byte> unpacked_;
    std::optional<std::uint64_t> unpacked_row_;  // where the chunk in unpacked_ begins
};

}  // namespace harness::hdf5
