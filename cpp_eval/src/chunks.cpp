#include "chunks.hpp"

#include <zlib.h>

#include <algorithm>

#include "error.hpp"
#include "lzf.hpp"

namespace harness::hdf5 {

namespace {

constexpr std::size_t kLargestChunk = std::size_t{1} << 28;

// No packing makes a chunk larger than this: both store what does not get smaller.
std::size_t largest_packed(std::size_t bytes) {
    return bytes + bytes / 8 + 1024;
}

}  // namespace

Chunks::Chunks(const Object& dataset)
    : id_(dataset.id()), place_(dataset.place), extent_(hdf5::shape(dataset)) {
    const Handle properties{H5Dget_create_plist(id_), H5Pclose};
    if (!properties) fail(place_, "a data set with properties");
    const H5D_layout_t layout = H5Pget_layout(properties.id());
    if (layout == H5D_CONTIGUOUS && H5Pget_external_count(properties.id()) == 0) return;
    if (layout != H5D_CHUNKED)
        throw BadInput(place_ + ": expected values in the file itself, in chunks or a row");

    const auto rank = static_cast<int>(extent_.size());
    chunk_.resize(extent_.size());
    if (H5Pget_chunk(properties.id(), rank, chunk_.data()) != rank)
        fail(place_, "chunks of the data set's rank");
    const Handle type{H5Dget_type(id_), H5Tclose};
    bytes_ = type ? H5Tget_size(type.id()) : 0;
    for (const hsize_t side : chunk_) {
        if (side == 0 || bytes_ == 0 || side > kLargestChunk / bytes_)
            throw BadInput(place_ + ": expected chunks of 1 to " + std::to_string(kLargestChunk) + " bytes");
        bytes_ *= side;
    }
    read_packing(properties.id());
    checked_.resize((extent_[0] + chunk_[0] - 1) / chunk_[0]);
}

// The filters of a bundle: bytes may be shuffled, then packed.
void Chunks::read_packing(hid_t properties) {
    for (int i = 0; i < H5Pget_nfilters(properties); ++i) {
        constexpr std::size_t most_values = 8;
        unsigned flags = 0;
        unsigned config = 0;
        unsigned values[most_values] = {};
        std::size_t count = most_values;
        const H5Z_filter_t filter =
            H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &count, values, 0, nullptr, &config);
        if (filter == H5Z_FILTER_SHUFFLE && i == 0) {
            shuffled_ = true;
        } else if (filter == H5Z_FILTER_DEFLATE && packing_ == Packing::none) {
            packing_ = Packing::deflate;
        } else if (is_lzf_filter(filter, {values, std::min(count, most_values)}, bytes_) &&
                   packing_ == Packing::none) {
            packing_ = Packing::lzf;
        } else {
            throw BadInput(place_ +
                           ": expected chunks packed by LZF or deflate to their own size, got filter " +
                           std::to_string(filter));
        }
    }
}

void Chunks::check(std::uint64_t first, std::uint64_t count) {
    if (chunk_.empty() || count == 0) return;
    for (hsize_t row = first / chunk_[0]; row <= (first + count - 1) / chunk_[0]; ++row) {
        if (checked_[row]) continue;
        std::vector<hsize_t> corner(chunk_.size(), 0);
        corner[0] = row * chunk_[0];
        // Counts through the chunks of this row as an odometer does; the first axis stands still.
        for (std::size_t axis = 1; axis > 0;) {
            check_one(corner);
            for (axis = chunk_.size() - 1; axis > 0; --axis) {
                corner[axis] += chunk_[axis];
                if (corner[axis] < extent_[axis]) break;
                corner[axis] = 0;
            }
        }
        checked_[row] = true;
    }
}

void Chunks::check_one(const std::vector<hsize_t>& corner) {
    hsize_t stored = 0;
    if (H5Dget_chunk_storage_size(id_, corner.data(), &stored) < 0) fail(place_, "an index of chunks");
    // As long as its values, a chunk is as it is, or packed by LZF, whose filter is this program's own and
    // refuses what does not unpack to all of them.
    const bool whole = stored == bytes_ && packing_ != Packing::deflate;
    if (whole || (packing_ != Packing::none && unpacks(corner, stored))) return;
    throw BadInput(place_ + ": expected chunks of " + std::to_string(bytes_) +
                   " bytes, got a damaged one, or none, in row " + std::to_string(corner[0]));
}

bool Chunks::unpacks(const std::vector<hsize_t>& corner, std::size_t stored) {
    if (stored == 0 || stored > largest_packed(bytes_)) return false;
    packed_.resize(stored);
    std::uint32_t skipped = 0;
    if (H5Dread_chunk(id_, H5P_DEFAULT, corner.data(), &skipped, packed_.data()) < 0) return false;
    const unsigned packer = shuffled_ ? 2 : 1;
    if ((skipped & packer) != 0) return stored == bytes_;
    if (packing_ == Packing::lzf) return true;
    unpacked_.resize(bytes_);
    uLongf size = bytes_;
    return uncompress(unpacked_.data(), &size, packed_.data(), packed_.size()) == Z_OK && size == bytes_;
}

}  // namespace harness::hdf5
