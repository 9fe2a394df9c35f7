// Which way up a camera says it held an image, and turning it upright.
#pragma once

#include <optional>
#include <string_view>

#include "images/image.hpp"

namespace harness {

/// An image as its file stores it, and the EXIF orientation: 1 is upright, 2 to 8 are flipped or turned.
struct Decoded {
    Image image;
    int orientation = 1;
};

/// The orientation in EXIF data, with or without the leading "Exif\0\0"; none where it has none.
[[nodiscard]] std::optional<int> exif_orientation(Bytes exif);

/// The orientation in XMP text: tiff:Orientation.
[[nodiscard]] std::optional<int> xmp_orientation(std::string_view xmp);

/// Returns the image flipped or turned; unchanged for an orientation that is not 2 to 8.
[[nodiscard]] Image upright(Image image, int orientation);

}  // namespace harness
