#include "bundle/chunks.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "bundle/lzf.hpp"
#include "error.hpp"

namespace harness::hdf5 {

namespace {

constexpr std::size_t kLargestChunk = std::size_t{1} << 28;

// No packing makes a chunk larger than this: both store what does not get smaller.
std::size_t largest_packed(std::size_t bytes) {
    return bytes + bytes / 8 + 1024;
}

// Undoes HDF5's shuffle, which puts the first bytes of all elements before the second bytes of all.
void unshuffle(std::span<const std::byte> shuffled, std::size_t element, std::span<std::byte> out) {
    const std::size_t elements = out.size() / element;
    for (std::size_t byte = 0; byte < element; ++byte) {
        const std::byte* const plane = &shuffled[byte * elements];
        for (std::size_t i = 0; i < elements; ++i) out[i * element + byte] = plane[i];
    }
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
    element_ = type ? H5Tget_size(type.id()) : 0;
    bytes_ = element_;
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
    unpacked_.resize(bytes_);
    unpacked_row_.reset();
    for (hsize_t row = first / chunk_[0]; row <= (first + count - 1) / chunk_[0]; ++row) {
        if (checked_[row]) continue;
        std::vector<hsize_t> corner(chunk_.size(), 0);
        corner[0] = row * chunk_[0];
        // Counts through the chunks of this row as an odometer does; the first axis stands still.
        for (std::size_t axis = 1; axis > 0;) {
            unpack(corner, unpacked_);
            for (axis = chunk_.size() - 1; axis > 0; --axis) {
                corner[axis] += chunk_[axis];
                if (corner[axis] < extent_[axis]) break;
                corner[axis] = 0;
            }
        }
        checked_[row] = true;
    }
}

bool Chunks::hold_rows() const {
    return !chunk_.empty() && std::equal(chunk_.begin() + 1, chunk_.end(), extent_.begin() + 1);
}

void Chunks::read(std::uint64_t first, std::uint64_t count, std::span<std::byte> out) {
    const std::size_t row_bytes = bytes_ / chunk_[0];
    std::vector<hsize_t> corner(chunk_.size(), 0);
    for (std::uint64_t row = first; row < first + count;) {
        const std::uint64_t before = row % chunk_[0];
        const std::uint64_t rows = std::min<std::uint64_t>(chunk_[0] - before, first + count - row);
        const auto target = out.subspan((row - first) * row_bytes, rows * row_bytes);
        corner[0] = row - before;
        if (rows == chunk_[0]) {
            unpack(corner, target);
        } else {
            if (unpacked_row_ != corner[0]) {  // the next batch often goes on in the same chunk
                unpacked_.resize(bytes_);
                unpacked_row_.reset();
                unpack(corner, unpacked_);
                unpacked_row_ = corner[0];
            }
            std::memcpy(target.data(), &unpacked_[before * row_bytes], target.size());
        }
        row += rows;
    }
}

std::optional<std::uint64_t> Chunks::offset(std::uint64_t row) const {
    std::vector<hsize_t> corner(chunk_.size(), 0);
    const std::uint64_t before = row % chunk_[0];
    corner[0] = row - before;
    unsigned skipped = 0;
    haddr_t address = HADDR_UNDEF;
    hsize_t stored = 0;
    if (H5Dget_chunk_info_by_coord(id_, corner.data(), &skipped, &address, &stored) < 0) return std::nullopt;
    if (address == HADDR_UNDEF || stored != bytes_ || !all_skipped(skipped)) return std::nullopt;
    return address + before * (bytes_ / chunk_[0]);
}

// Whether no filter was applied to a chunk, by its mask of those that were skipped.
bool Chunks::all_skipped(unsigned skipped) const {
    const unsigned filters = (shuffled_ ? 1u : 0u) + (packing_ == Packing::none ? 0u : 1u);
    const unsigned all = (1u << filters) - 1;
    return (skipped & all) == all;
}

// Reads a chunk, and unpacks it unless it was left as it is.
void Chunks::unpack(const std::vector<hsize_t>& corner, std::span<std::byte> out) {
    hsize_t stored = 0;
    if (H5Dget_chunk_storage_size(id_, corner.data(), &stored) < 0) fail(place_, "an index of chunks");
    if (stored > 0 && stored <= largest_packed(bytes_)) {
        const bool fits = stored == bytes_;  // then it was most likely left as it is
        if (!fits) packed_.resize(stored);
        std::uint32_t skipped = 0;
        const bool read =
            H5Dread_chunk(id_, H5P_DEFAULT, corner.data(), &skipped, fits ? out.data() : packed_.data()) >= 0;
        if (read && fits && all_skipped(skipped)) return;
        if (read && fits) packed_.assign(out.begin(), out.end());
        if (read && unpack_packed(skipped, out)) return;
    }
    throw BadInput(place_ + ": expected chunks of " + std::to_string(bytes_) +
                   " bytes, got a damaged one, or none, in row " + std::to_string(corner[0]));
}

// Undoes the filters that were not skipped, the last one first: packed_ to out.
bool Chunks::unpack_packed(unsigned skipped, std::span<std::byte> out) {
    const bool shuffled = shuffled_ && (skipped & 1u) == 0;
    const bool packed = packing_ != Packing::none && (skipped & (shuffled_ ? 2u : 1u)) == 0;
    shuffled_bytes_.resize(shuffled ? out.size() : 0);
    const std::span<std::byte> target = shuffled ? std::span(shuffled_bytes_) : out;
    if (!packed) {
        if (packed_.size() != target.size()) return false;
        std::ranges::copy(packed_, target.begin());
    } else if (packing_ == Packing::lzf) {
        if (lzf_decompress(packed_, target) != target.size()) return false;
    } else {
        uLongf size = target.size();
        const auto* source = reinterpret_cast<const Bytef*>(packed_.data());
        auto* bytes = reinterpret_cast<Bytef*>(target.data());
        if (uncompress(bytes, &size, source, packed_.size()) != Z_OK || size != target.size()) return false;
    }
    if (shuffled) unshuffle(shuffled_bytes_, element_, out);
    return true;
}

}  // namespace harness::hdf5
