#include "bundle/lzf.hpp"

#include <hdf5.h>

#include <algorithm>
#include <cstring>

namespace harness {

namespace {

constexpr H5Z_filter_t kLzfFilter = 32000;
constexpr std::size_t kChunkBytesValue = 2;  // which of the filter's values holds the size of a whole chunk
constexpr std::size_t kLongestRun = 32;      // of literal bytes
constexpr std::size_t kFloat = 4;            // bytes; most matches repeat one value of an image
constexpr std::size_t kLargestChunk = std::size_t{1} << 30;

unsigned as_number(std::byte value) {
    return std::to_integer<unsigned>(value);
}

// HDF5's filter interface: replaces *buffer by the decompressed chunk and returns its size, 0 for failure.
std::size_t lzf_filter(unsigned flags, std::size_t values, const unsigned* value, std::size_t used,
                       std::size_t* capacity, void** buffer) {
    if ((flags & H5Z_FLAG_REVERSE) == 0 || values <= kChunkBytesValue) return 0;
    const std::size_t size = value[kChunkBytesValue];
    if (size == 0 || size > kLargestChunk) return 0;
    void* chunk = H5allocate_memory(size, false);
    if (chunk == nullptr) return 0;
    const auto written = lzf_decompress({static_cast<const std::byte*>(*buffer), used},
                                        {static_cast<std::byte*>(chunk), size});
    if (written != size) {
        H5free_memory(chunk);
        return 0;
    }
    H5free_memory(*buffer);
    *buffer = chunk;
    *capacity = size;
    return size;
}

}  // namespace

std::optional<std::size_t> lzf_decompress(std::span<const std::byte> input, std::span<std::byte> output) {
    std::size_t in = 0;
    std::size_t out = 0;
    while (in < input.size()) {
        const unsigned control = as_number(input[in++]);
        if (control < kLongestRun) {
            const std::size_t length = control + 1;
            if (length > input.size() - in || length > output.size() - out) return std::nullopt;
            if (kLongestRun <= input.size() - in && kLongestRun <= output.size() - out) {
                // Of known length, so no call; what follows overwrites what was too much.
                std::memcpy(&output[out], &input[in], kLongestRun);
            } else {
                std::memcpy(&output[out], &input[in], length);
            }
            in += length;
            out += length;
            continue;
        }
        std::size_t length = control >> 5;
        if (length == 7) {
            if (in == input.size()) return std::nullopt;
            length += as_number(input[in++]);
        }
        length += 2;
        if (in == input.size()) return std::nullopt;
        const std::size_t distance = ((control & 0x1fu) << 8) + as_number(input[in++]) + 1;
        if (distance > out || length > output.size() - out) return std::nullopt;
        if (length <= kFloat && distance >= kFloat && kFloat <= output.size() - out) {
            std::memcpy(&output[out], &output[out - distance], kFloat);  // of known length, as above
        } else if (distance >= length) {
            std::memcpy(&output[out], &output[out - distance], length);
        } else {
            for (std::size_t i = 0; i < length; ++i) output[out + i] = output[out + i - distance];
        }
        out += length;
    }
    return out;
}

void register_lzf_filter() {
    static constexpr H5Z_class2_t filter = {H5Z_CLASS_T_VERS, kLzfFilter, 0,         1, "lzf",
                                            nullptr,          nullptr,    lzf_filter};
    H5Zregister(&filter);
}

bool is_lzf_filter(int filter, std::span<const unsigned> values, std::size_t chunk_bytes) {
    return filter == kLzfFilter && values.size() > kChunkBytesValue &&
           values[kChunkBytesValue] == chunk_bytes;
}

}  // namespace harness
