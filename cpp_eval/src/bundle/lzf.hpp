// The LZF compression that h5py offers and Debian's HDF5 lacks.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace harness {

/// Decompresses one LZF block into `output`. Returns the number of bytes written, none where the block is
/// damaged or does not fit.
///
/// A control byte below 32 announces that many plus one literal bytes. Any other holds a length of 3 bits and
/// the upper 5 bits of a distance of 13; length 7 is continued in the next byte; length + 2 bytes are
/// repeated from there. Source: the format's description in liblzf by Marc Lehmann.
[[nodiscard]] std::optional<std::size_t> lzf_decompress(std::span<const std::byte> input,
                                                        std::span<std::byte> output);

/// Tells HDF5 to use it for filter 32000.
void register_lzf_filter();

/// Whether a data set's filter, with its values, is LZF for chunks of that many bytes.
[[nodiscard]] bool is_lzf_filter(int filter, std::span<const unsigned> values, std::size_t chunk_bytes);

}  // namespace harness
