// Any bytes are a bundle, whose every batch can be read, or are refused; nothing else happens.
#include <cstdint>
#include <span>

#include "bundle/bundle.hpp"
#include "bundle/condition_reader.hpp"
#include "error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::size_t largest_image = 1 << 16;  // large images only cost time
    try {
        const auto bundle = harness::Bundle::open_image(std::as_bytes(std::span(data, size)));
        if (bundle.shape().size() > largest_image) return 0;
        harness::Batch batch;
        for (std::size_t i = 0; i < bundle.conditions().size(); ++i) {
            harness::ConditionReader reader(bundle, i);
            while (reader.read(batch, 16)) continue;
        }
    } catch (const harness::BadInput&) {
        return 0;
    }
    return 0;
}
