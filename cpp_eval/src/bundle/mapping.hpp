// Bytes of a file where they lie in the system's memory, without copying them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "bundle/hdf5.hpp"

namespace harness::hdf5 {

/// The descriptor that HDF5 reads an object's file by, owned by HDF5; none where the file is in memory, or
/// begins with a user block: versions of HDF5 differ in whether they count it in addresses.
[[nodiscard]] std::optional<int> descriptor(const Object& object);

/// Some bytes of a file, mapped for reading as long as this lives. They count as the process's memory
/// meanwhile, so that a large file is mapped a piece at a time. A file that gets shorter ends the process
/// that reads on by SIGBUS; see `supervised`.
class Mapping {
  public:
    /// Maps [offset, offset + count); none where the file has not so many, or the system refuses.
    [[nodiscard]] static std::optional<Mapping> of(int descriptor, std::uint64_t offset, std::size_t count);

    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  private:
    struct Unmap {
        std::size_t size;
        void operator()(std::byte* pages) const;
    };
    using Pages = std::unique_ptr<std::byte, Unmap>;  // whole ones, as the system maps no others

    Mapping(Pages pages, std::span<const std::byte> bytes) : pages_(std::move(pages)), bytes_(bytes) {}

    Pages pages_;
    std::span<const std::byte> bytes_;
};

}  // namespace harness::hdf5
