#include "bundle/rows.hpp"

#include <functional>
#include <numeric>
#include <utility>
#include <vector>

namespace harness::hdf5 {

Rows::Rows(Object dataset)
    : dataset_(std::move(dataset)), chunks_(dataset_), descriptor_(descriptor(dataset_)) {
    const auto extent = shape(dataset_);
    row_bytes_ = std::accumulate(extent.begin() + 1, extent.end(), sizeof(float), std::multiplies<>());
    const Handle type{H5Dget_type(dataset_.id()), H5Tclose};
    as_stored_ = type && chunks_.hold_rows() && H5Tequal(type.id(), H5T_NATIVE_FLOAT) > 0;
}

void Rows::read(std::uint64_t first, std::uint64_t count, std::span<float> out) {
    if (as_stored_) {
        chunks_.read(first, count, std::as_writable_bytes(out));
        return;
    }
    chunks_.check(first, count);
    const Handle space{H5Dget_space(dataset_.id()), H5Sclose};
    std::vector<hsize_t> extent;
    for (const std::uint64_t size : shape(dataset_)) extent.push_back(size);
    std::vector<hsize_t> start(extent.size(), 0);
    start[0] = first;
    extent[0] = count;
    const Handle memory{H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr), H5Sclose};
    if (!space || !memory ||
        H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr) < 0 ||
        H5Dread(dataset_.id(), H5T_NATIVE_FLOAT, memory.id(), space.id(), H5P_DEFAULT, out.data()) < 0) {
        fail(dataset_.place, "readable numbers in rows " + std::to_string(first) + " to " +
                                 std::to_string(first + count - 1));
    }
}

std::optional<StoredRow> Rows::stored(std::uint64_t row) const {
    const auto offset = descriptor_ && as_stored_ ? chunks_.offset(row) : std::nullopt;
    if (!offset || *offset % alignof(float) != 0) return std::nullopt;
    auto mapping = Mapping::of(*descriptor_, *offset, row_bytes_);
    if (!mapping) return std::nullopt;
    const auto bytes = mapping->bytes();
    const std::span values(reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float));
    return StoredRow{*std::move(mapping), values};
}

}  // namespace harness::hdf5
