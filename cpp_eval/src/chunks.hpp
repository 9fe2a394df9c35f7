// The chunks of a data set, checked before HDF5 unpacks them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "hdf5.hpp"

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

  private:
    enum class Packing { none, lzf, deflate };

    void read_packing(hid_t properties);
    void check_one(const std::vector<hsize_t>& corner);
    [[nodiscard]] bool unpacks(const std::vector<hsize_t>& corner, std::size_t stored);

    hid_t id_;
    std::string place_;
    std::vector<std::uint64_t> extent_;
    std::vector<hsize_t> chunk_;  // empty: not chunked
    std::size_t bytes_ = 0;
    Packing packing_ = Packing::none;
    bool shuffled_ = false;
    std::vector<bool> checked_;  // by chunk along the first axis
    std::vector<unsigned char> packed_;
    std::vector<unsigned char> unpacked_;
};

}  // namespace harness::hdf5
