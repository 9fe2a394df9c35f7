// JPEG through libjpeg-turbo, with the decoder settings that Pillow uses.
#pragma once

#include "images/orientation.hpp"

namespace harness {

/// Decodes a JPEG: grey, YCbCr, RGB, CMYK or YCCK (both inverted, as Adobe stores them). Throws BadInput.
[[nodiscard]] Decoded decode_jpeg(Bytes encoded, std::size_t max_pixels);

}  // namespace harness
