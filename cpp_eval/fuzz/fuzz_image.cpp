// Any bytes decode to an image or are refused; nothing else happens.
#include <cstdint>

#include "error.hpp"
#include "images/image.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::size_t max_pixels = 1 << 18;  // large images only cost time
    try {
        static_cast<void>(harness::decode_image({data, size}, max_pixels));
    } catch (const harness::BadInput&) {
        return 0;
    }
    return 0;
}
