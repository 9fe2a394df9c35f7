#include "images/orientation.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

// EXIF with one entry, in either byte order.
std::vector<std::uint8_t> exif(bool big_endian, unsigned tag, unsigned type, unsigned value) {
    std::vector<std::uint8_t> out;
    const auto put = [&](unsigned number, int size) {
        for (int i = 0; i < size; ++i) {
            const int shift = 8 * (big_endian ? size - 1 - i : i);
            out.push_back(static_cast<std::uint8_t>(number >> shift));
        }
    };
    out.assign(2, big_endian ? 'M' : 'I');
    put(42, 2);
    put(8, 4);
    put(1, 2);
    put(tag, 2);
    put(type, 2);
    put(1, 4);
    put(value, type == 3 ? 2 : 4);
    out.resize(8 + 2 + 12 + 4);
    return out;
}

// 2 wide, 3 high; the red of each pixel is its number in reading order.
Image numbered() {
    Image image{2, 3, {}};
    for (std::uint8_t i = 0; i < 6; ++i) image.pixels.insert(image.pixels.end(), {i, 0, 0});
    return image;
}

std::vector<int> reds(const Image& image) {
    std::vector<int> out;
    for (std::size_t i = 0; i < image.pixels.size(); i += 3) out.push_back(image.pixels[i]);
    return out;
}

}  // namespace

TEST_CASE("the orientation is read in both byte orders, short or long") {
    CHECK(exif_orientation(exif(true, 0x0112, 3, 6)) == 6);
    CHECK(exif_orientation(exif(false, 0x0112, 3, 8)) == 8);
    CHECK(exif_orientation(exif(true, 0x0112, 4, 3)) == 3);
}

TEST_CASE("EXIF data that says nothing useful has no orientation") {
    CHECK_FALSE(exif_orientation(exif(true, 0x0110, 3, 6)));
    CHECK_FALSE(exif_orientation(exif(true, 0x0112, 2, 6)));
    CHECK_FALSE(exif_orientation(exif(true, 0x0112, 4, 0x80000001)));
    CHECK_FALSE(exif_orientation({}));
}

TEST_CASE("EXIF data may end anywhere") {
    const auto whole = exif(false, 0x0112, 3, 6);
    for (std::size_t size = 0; size < 20; ++size) CHECK_FALSE(exif_orientation(Bytes(whole).first(size)));
}

TEST_CASE("XMP keeps the orientation as attribute or element") {
    CHECK(xmp_orientation("<x tiff:Orientation=\"6\"/>") == 6);
    CHECK(xmp_orientation("<tiff:Orientation>3</tiff:Orientation>") == 3);
    CHECK_FALSE(xmp_orientation("<x/>"));
    CHECK_FALSE(xmp_orientation("tiff:Orientation=\""));
}

TEST_CASE("each orientation turns the image upright") {
    CHECK(reds(upright(numbered(), 1)) == std::vector{0, 1, 2, 3, 4, 5});
    CHECK(reds(upright(numbered(), 2)) == std::vector{1, 0, 3, 2, 5, 4});
    CHECK(reds(upright(numbered(), 3)) == std::vector{5, 4, 3, 2, 1, 0});
    CHECK(reds(upright(numbered(), 4)) == std::vector{4, 5, 2, 3, 0, 1});
    CHECK(reds(upright(numbered(), 5)) == std::vector{0, 2, 4, 1, 3, 5});
    CHECK(reds(upright(numbered(), 6)) == std::vector{4, 2, 0, 5, 3, 1});
    CHECK(reds(upright(numbered(), 7)) == std::vector{5, 3, 1, 4, 2, 0});
    CHECK(reds(upright(numbered(), 8)) == std::vector{1, 3, 5, 0, 2, 4});
    CHECK(upright(numbered(), 6).width == 3);
    CHECK(upright(numbered(), 6).height == 2);
}
