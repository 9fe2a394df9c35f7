#include "images/orientation.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace harness {

namespace {

constexpr std::array<std::uint8_t, 6> kExifStart = {'E', 'x', 'i', 'f', 0, 0};
constexpr unsigned kOrientationTag = 0x0112;
constexpr unsigned kShort = 3;
constexpr unsigned kLong = 4;
constexpr std::size_t kEntrySize = 12;

// Numbers of a TIFF structure, in its byte order. What lies outside reads as none.
class Tiff {
  public:
    explicit Tiff(Bytes bytes) : bytes_(bytes), big_endian_(!bytes.empty() && bytes[0] == 'M') {}

    [[nodiscard]] std::optional<unsigned> number(std::size_t at, std::size_t size) const {
        if (at > bytes_.size() || size > bytes_.size() - at) return std::nullopt;
        unsigned value = 0;
        for (std::size_t i = 0; i < size; ++i)
            value = value << 8 | bytes_[at + (big_endian_ ? i : size - 1 - i)];
        return value;
    }

  private:
    Bytes bytes_;
    bool big_endian_;
};

// Where the pixel (row, column) of the upright image lies in the stored one of `width` x `height`.
std::size_t source(const Image& stored, int orientation, std::size_t row, std::size_t column) {
    const std::size_t right = stored.width - 1;
    const std::size_t bottom = stored.height - 1;
    const auto at = [&stored](std::size_t y, std::size_t x) { return y * stored.width + x; };
    switch (orientation) {
        case 2:
            return at(row, right - column);
        case 3:
            return at(bottom - row, right - column);
        case 4:
            return at(bottom - row, column);
        case 5:
            return at(column, row);
        case 6:
            return at(bottom - column, row);
        case 7:
            return at(bottom - column, right - row);
        default:
            return at(column, right - row);
    }
}

}  // namespace

std::optional<int> exif_orientation(Bytes exif) {
    while (exif.size() >= kExifStart.size() &&
           std::equal(kExifStart.begin(), kExifStart.end(), exif.begin())) {
        exif = exif.subspan(kExifStart.size());
    }
    const Tiff tiff(exif);
    const auto directory = tiff.number(4, 4);
    if (!directory) return std::nullopt;
    const auto entries = tiff.number(*directory, 2);
    std::optional<int> orientation;
    for (std::size_t i = 0; i < entries.value_or(0); ++i) {
        const std::size_t entry = *directory + 2 + i * kEntrySize;
        if (tiff.number(entry, 2) != kOrientationTag || tiff.number(entry + 4, 4) != 1u) continue;
        const auto type = tiff.number(entry + 2, 2);
        if (type != kShort && type != kLong) continue;
        if (const auto value = tiff.number(entry + 8, type == kShort ? 2 : 4); value && *value <= 8) {
            orientation = static_cast<int>(*value);
        }
    }
    return orientation;
}

std::optional<int> xmp_orientation(std::string_view xmp) {
    for (const std::string_view start : {"tiff:Orientation=\"", "tiff:Orientation>"}) {
        const auto at = xmp.find(start);
        if (at == std::string_view::npos || at + start.size() >= xmp.size()) continue;
        const char digit = xmp[at + start.size()];
        if (digit >= '0' && digit <= '9') return digit - '0';
    }
    return std::nullopt;
}

Image upright(Image image, int orientation) {
    if (orientation < 2 || orientation > 8) return image;
    Image turned{image.width, image.height, std::vector<std::uint8_t>(image.pixels.size())};
    if (orientation >= 5) std::swap(turned.width, turned.height);
    auto out = turned.pixels.begin();
    for (std::size_t row = 0; row < turned.height; ++row) {
        for (std::size_t column = 0; column < turned.width; ++column) {
            out = std::copy_n(&image.pixels[3 * source(image, orientation, row, column)], 3, out);
        }
    }
    return turned;
}

}  // namespace harness
