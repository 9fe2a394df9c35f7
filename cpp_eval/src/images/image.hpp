// Image files to RGB pixels, the same that Pillow's ImageOps.exif_transpose(Image.open(f)).convert("RGB")
// gives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace harness {

/// Pixels (height, width, 3), uint8 RGB.
struct Image {
    std::size_t width = 0;
    std::size_t height = 0;
    std::vector<std::uint8_t> pixels;
};

using Bytes = std::span<const std::uint8_t>;

/// Pillow warns of more pixels than this; the Python package refuses them too (harness.images.MAX_PIXELS).
inline constexpr std::size_t kMaxPixels = 89'478'485;

/// Throws BadInput where an image has more pixels than that.
void check_size(std::size_t width, std::size_t height, std::size_t max_pixels);

/// Decodes a JPEG or PNG, upright. Throws BadInput where it is neither, damaged, truncated or too large.
[[nodiscard]] Image decode_image(Bytes encoded, std::size_t max_pixels = kMaxPixels);

/// No JPEG or PNG of so many pixels has a longer file.
inline constexpr std::size_t kMaxBytes = std::size_t{1} << 30;

/// Reads and decodes a file. What is no regular file, such as a FIFO, is not opened; what is no JPEG or PNG
/// is refused at its first bytes, however long it is.
[[nodiscard]] Image read_image(const std::filesystem::path& path, std::size_t max_bytes = kMaxBytes);

}  // namespace harness
