#include "images/image.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <system_error>

#include "error.hpp"
#include "images/jpeg.hpp"
#include "images/orientation.hpp"
#include "images/png.hpp"

namespace harness {

namespace {

constexpr std::array<std::uint8_t, 3> kJpegStart = {0xff, 0xd8, 0xff};
constexpr std::array<std::uint8_t, 8> kPngStart = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

constexpr const char* kOtherFormat = "expected a JPEG or PNG, got another format";

bool starts_with(Bytes bytes, Bytes start) {
    return bytes.size() >= start.size() && std::equal(start.begin(), start.end(), bytes.begin());
}

// Throws BadInput for what is there and must not be opened: a FIFO waits for ever, a device may have no end.
void check_regular(const std::filesystem::path& path) {
    using std::filesystem::file_type;
    std::error_code unknown;
    const auto expect = [](const char* found) {
        throw BadInput(std::string("expected a regular file, got ") + found);
    };
    switch (std::filesystem::status(path, unknown).type()) {
        case file_type::fifo:
            return expect("a FIFO");
        case file_type::socket:
            return expect("a socket");
        case file_type::character:
        case file_type::block:
            return expect("a device");
        default:
            return;
    }
}

}  // namespace

void check_size(std::size_t width, std::size_t height, std::size_t max_pixels) {
    if (width <= max_pixels / height) return;
    throw BadInput("expected at most " + std::to_string(max_pixels) + " pixels, got " +
                   std::to_string(width) + " x " + std::to_string(height));
}

Image decode_image(Bytes encoded, std::size_t max_pixels) {
    if (starts_with(encoded, kJpegStart)) {
        auto [image, orientation] = decode_jpeg(encoded, max_pixels);
        return upright(std::move(image), orientation);
    }
    if (starts_with(encoded, kPngStart)) {
        auto [image, orientation] = decode_png(encoded, max_pixels);
        return upright(std::move(image), orientation);
    }
    throw BadInput(kOtherFormat);
}

Image read_image(const std::filesystem::path& path, std::size_t max_bytes) {
    check_regular(path);
    std::ifstream file(path, std::ios::binary);
    std::vector<std::uint8_t> encoded;
    std::array<char, 1 << 16> block;
    do {
        file.read(block.data(), block.size());
        encoded.insert(encoded.end(), block.begin(), block.begin() + file.gcount());
        if (file && !starts_with(encoded, kJpegStart) && !starts_with(encoded, kPngStart))
            throw BadInput(kOtherFormat);
        if (encoded.size() > max_bytes)
            throw BadInput("expected a file of at most " + std::to_string(max_bytes) +
                           " bytes, got a longer one");
    } while (file);
    if (!file.is_open() || file.bad()) throw BadInput("expected a readable file");
    return decode_image(encoded);
}

}  // namespace harness
