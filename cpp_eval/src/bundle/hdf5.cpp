#include "bundle/hdf5.hpp"

#include <algorithm>
#include <cstring>

#include "bundle/chunks.hpp"
#include "bundle/lzf.hpp"
#include "error.hpp"

namespace harness::hdf5 {

namespace {

constexpr std::size_t kLongestText = 1 << 13;

// What the deepest entry of HDF5's error stack says was wrong.
std::string last_error() {
    std::string text = "unknown error";
    const auto keep_first = [](unsigned position, const H5E_error2_t* entry, void* into) -> herr_t {
        if (position == 0 && entry->desc != nullptr) *static_cast<std::string*>(into) = entry->desc;
        return 0;
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &text);
    return text;
}

// HDF5 prints its error stack by default, for each thread anew.
void silence() {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Object file_of(hid_t id, std::string place) {
    Object file{{id, H5Fclose}, std::move(place)};
    if (!file.handle) fail(file.place, "an HDF5 file");
    register_lzf_filter();
    return file;
}

std::string below(const Object& parent, const std::string& name) {
    const bool is_file = H5Iget_type(parent.id()) == H5I_FILE;
    return parent.place + (is_file ? ": /" : "/") + name;
}

Handle type_of(hid_t dataset) {
    return {H5Dget_type(dataset), H5Tclose};
}

std::string type_name(hid_t type) {
    const auto bits = std::to_string(8 * H5Tget_size(type));
    switch (H5Tget_class(type)) {
        case H5T_INTEGER:
            return (H5Tget_sign(type) == H5T_SGN_NONE ? "uint" : "int") + bits;
        case H5T_FLOAT:
            return "float" + bits;
        case H5T_STRING:
            return H5Tis_variable_str(type) > 0 ? "variable-length text" : "text";
        default:
            return "another type";
    }
}

// An attribute with one value, and its type; none if it does not exist.
struct Scalar {
    Handle attribute;
    Handle type;
};

std::optional<Scalar> scalar_attribute(const Object& object, const char* name) {
    if (H5Aexists(object.id(), name) <= 0) return std::nullopt;
    Scalar scalar{{H5Aopen(object.id(), name, H5P_DEFAULT), H5Aclose}, {}};
    const std::string place = object.place + ": attribute " + name;
    if (!scalar.attribute) fail(place, "a readable attribute");
    scalar.type = {H5Aget_type(scalar.attribute.id()), H5Tclose};
    const Handle space{H5Aget_space(scalar.attribute.id()), H5Sclose};
    if (!scalar.type || !space || H5Sget_simple_extent_npoints(space.id()) != 1) fail(place, "one value");
    return scalar;
}

template <typename Number>
std::optional<Number> number_attribute(const Object& object, const char* name, H5T_class_t kind,
                                       hid_t native) {
    const auto scalar = scalar_attribute(object, name);
    if (!scalar) return std::nullopt;
    Number value{};
    const bool fits = H5Tget_class(scalar->type.id()) == kind;
    if (!fits || H5Aread(scalar->attribute.id(), native, &value) < 0) {
        fail(object.place + ": attribute " + name, kind == H5T_INTEGER ? "a whole number" : "a number");
    }
    return value;
}

// A link to another file would take values from there.
void require_own(const Object& parent, const std::string& name) {
    H5L_info_t link;
    const bool found = H5Lget_info(parent.id(), name.c_str(), &link, H5P_DEFAULT) >= 0;
    if (found && link.type != H5L_TYPE_HARD)
        throw BadInput(below(parent, name) + ": expected an object of the file itself, got a link elsewhere");
}

std::string until_nul(const char* text, std::size_t size) {
    return {text, strnlen(text, size)};
}

}  // namespace

void fail(const std::string& place, const std::string& expected) {
    throw BadInput(place + ": expected " + expected + ", got: " + last_error());
}

Object open_file(const std::filesystem::path& path) {
    silence();
    return file_of(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), path.string());
}

Object open_image(std::span<const std::byte> bytes) {
    silence();
    const Handle access{H5Pcreate(H5P_FILE_ACCESS), H5Pclose};
    constexpr std::size_t increment = 1 << 16;
    std::vector<std::byte> image(bytes.begin(), bytes.end());
    if (!access || image.empty() || H5Pset_fapl_core(access.id(), increment, false) < 0 ||
        H5Pset_file_image(access.id(), image.data(), image.size()) < 0) {
        fail("memory", "an HDF5 file");
    }
    return file_of(H5Fopen("memory", H5F_ACC_RDONLY, access.id()), "memory");
}

bool has_link(const Object& group, const std::string& name) {
    return H5Lexists(group.id(), name.c_str(), H5P_DEFAULT) > 0;
}

Object open_group(const Object& parent, const std::string& name) {
    silence();
    require_own(parent, name);
    Object group{{H5Gopen2(parent.id(), name.c_str(), H5P_DEFAULT), H5Gclose}, below(parent, name)};
    if (!group.handle) fail(group.place, "a group");
    return group;
}

Object open_dataset(const Object& parent, const std::string& name) {
    silence();
    require_own(parent, name);
    Object dataset{{H5Dopen2(parent.id(), name.c_str(), H5P_DEFAULT), H5Dclose}, below(parent, name)};
    if (!dataset.handle) fail(dataset.place, "a data set");
    return dataset;
}

std::vector<std::string> children(const Object& group) {
    std::vector<std::string> names;
    const auto keep = [](hid_t, const char* name, const H5L_info_t*, void* into) -> herr_t {
        static_cast<std::vector<std::string>*>(into)->emplace_back(name);
        return 0;
    };
    if (H5Literate(group.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr, keep, &names) < 0)
        fail(group.place, "a group's names");
    return names;
}

std::uint64_t file_size(const Object& file) {
    hsize_t size = 0;
    if (H5Fget_filesize(file.id(), &size) < 0) fail(file.place, "a file of known size");
    return size;
}

std::optional<std::string> text_attribute(const Object& object, const char* name) {
    const auto scalar = scalar_attribute(object, name);
    if (!scalar) return std::nullopt;
    const hid_t type = scalar->type.id();
    const std::size_t size = H5Tget_size(type);
    std::vector<char> text(std::min(size, kLongestText));
    const bool fits =
        H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && size <= kLongestText;
    if (!fits || H5Aread(scalar->attribute.id(), type, text.data()) < 0) {
        fail(object.place + ": attribute " + name, "fixed-length text");
    }
    return until_nul(text.data(), text.size());
}

std::optional<std::int64_t> int_attribute(const Object& object, const char* name) {
    return number_attribute<std::int64_t>(object, name, H5T_INTEGER, H5T_NATIVE_INT64);
}

std::optional<double> float_attribute(const Object& object, const char* name) {
    return number_attribute<double>(object, name, H5T_FLOAT, H5T_NATIVE_DOUBLE);
}

std::vector<std::uint64_t> shape(const Object& dataset) {
    const Handle space{H5Dget_space(dataset.id()), H5Sclose};
    const int rank = space ? H5Sget_simple_extent_ndims(space.id()) : -1;
    if (rank < 0) fail(dataset.place, "a data set with a shape");
    std::vector<hsize_t> extent(static_cast<std::size_t>(rank));
    if (H5Sget_simple_extent_dims(space.id(), extent.data(), nullptr) < 0) fail(dataset.place, "a shape");
    return {extent.begin(), extent.end()};
}

std::string type_name(const Object& dataset) {
    const Handle type = type_of(dataset.id());
    return type ? type_name(type.id()) : "no type";
}

std::vector<std::string> read_texts(const Object& dataset, std::size_t count) {
    const Handle type = type_of(dataset.id());
    const std::size_t size = type ? H5Tget_size(type.id()) : 0;
    if (type_name(dataset) != "text" || size > kLongestText) fail(dataset.place, "fixed-length text");
    Chunks(dataset).check(0, count);
    std::vector<char> characters(count * size);
    if (H5Dread(dataset.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, characters.data()) < 0)
        fail(dataset.place, "text");
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < count; ++i) texts.push_back(until_nul(&characters[i * size], size));
    return texts;
}

std::vector<std::int64_t> read_integers(const Object& dataset, std::size_t count) {
    Chunks(dataset).check(0, count);
    std::vector<std::int64_t> numbers(count);
    if (H5Dread(dataset.id(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers.data()) < 0) {
        fail(dataset.place, "readable numbers");
    }
    return numbers;
}

}  // namespace harness::hdf5
