// PNG through libpng, with the conversions to RGB that the Python package makes.
#pragma once

#include "images/orientation.hpp"

namespace harness {

/// Decodes a PNG: palette, grey, RGB, of any depth; alpha is dropped. Grey of 16 bits is scaled to 8 and
/// rounded, colour of 16 bits keeps the upper byte, as Pillow reads it. Throws BadInput.
[[nodiscard]] Decoded decode_png(Bytes encoded, std::size_t max_pixels);

}  // namespace harness
