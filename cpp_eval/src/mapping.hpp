// Bytes of a file where they lie in the system's memory, without copying them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "hdf5.hpp"

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

    Mapping(Mapping&& other) noexcept
        : pages_(std::exchange(other.pages_, {})), bytes_(std::exchange(other.bytes_, {})) {}
    Mapping& operator=(Mapping&& other) noexcept {
        std::swap(pages_, other.pages_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping();

    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  private:
    Mapping(std::span<std::byte> pages, std::span<const std::byte> bytes) : pages_(pages), bytes_(bytes) {}

    std::span<std::byte> pages_;  // whole pages, as the system maps no others
    std::span<const std::byte> bytes_;
};

}  // namespace harness::hdf5
