// HDF5's C interface behind owning handles; whatever fails is a BadInput that names the place.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace harness::hdf5 {

/// Owns one HDF5 identifier.
class Handle {
  public:
    using Close = herr_t (*)(hid_t);

    Handle() = default;
    Handle(hid_t id, Close close) : id_(id), close_(close) {}
    Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(id_, other.id_);
        std::swap(close_, other.close_);
        return *this;
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() {
        if (id_ >= 0) close_(id_);
    }

    [[nodiscard]] hid_t id() const { return id_; }
    [[nodiscard]] explicit operator bool() const { return id_ >= 0; }

  private:
    hid_t id_ = H5I_INVALID_HID;
    Close close_ = nullptr;
};

/// An object of a file, with its readable place: "bundle.h5: /conditions/clean/x".
struct Object {
    Handle handle;
    std::string place;

    [[nodiscard]] hid_t id() const { return handle.id(); }
};

/// Throws a BadInput that names the place, what was expected, and what HDF5 says was wrong.
[[noreturn]] void fail(const std::string& place, const std::string& expected);

/// Opens a file for reading, and makes HDF5 quiet and able to read LZF.
[[nodiscard]] Object open_file(const std::filesystem::path& path);

/// Opens a file that lies in memory.
[[nodiscard]] Object open_image(std::span<const std::byte> bytes);

[[nodiscard]] bool has_link(const Object& group, const std::string& name);
/// Opens a child by its own name, no path; soft and external links are refused.
[[nodiscard]] Object open_group(const Object& parent, const std::string& name);
[[nodiscard]] Object open_dataset(const Object& parent, const std::string& name);
[[nodiscard]] std::vector<std::string> children(const Object& group);
/// The size of the file in bytes.
[[nodiscard]] std::uint64_t file_size(const Object& file);

[[nodiscard]] std::optional<std::string> text_attribute(const Object& object, const char* name);
[[nodiscard]] std::optional<std::int64_t> int_attribute(const Object& object, const char* name);
[[nodiscard]] std::optional<double> float_attribute(const Object& object, const char* name);

/// The extent of a data set.
[[nodiscard]] std::vector<std::uint64_t> shape(const Object& dataset);
/// "int64", "float32", or another description of the type of a data set's elements.
[[nodiscard]] std::string type_name(const Object& dataset);

/// Reads a whole data set of fixed-length text.
[[nodiscard]] std::vector<std::string> read_texts(const Object& dataset, std::size_t count);
/// Reads a whole data set of whole numbers.
[[nodiscard]] std::vector<std::int64_t> read_integers(const Object& dataset, std::size_t count);
}  // namespace harness::hdf5
