#include "images/png.hpp"

#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <string>
#include <string_view>

#include "error.hpp"

namespace harness {

namespace {

constexpr std::string_view kXmpKeyword = "XML:com.adobe.xmp";
constexpr std::string_view kRawExifKeyword = "Raw profile type exif";

// libpng, like libjpeg, leaves by longjmp; see jpeg.cpp.
class Reader {
  public:
    explicit Reader(Bytes encoded) : rest_(encoded) {
        png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, keep_message,
                                      [](png_structp, png_const_charp) {});
        if (png_ != nullptr) info_ = png_create_info_struct(png_);
    }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }

    [[nodiscard]] bool read_header() {
        if (info_ == nullptr || setjmp(png_jmpbuf(png_)) != 0) return false;
        png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
        png_set_read_fn(png_, this, give);
        png_read_info(png_, info_);
        return true;
    }

    // Sets the conversions: one sample a byte or two, palette as indices. Returns the bytes of a row.
    [[nodiscard]] std::size_t prepare() {
        if (setjmp(png_jmpbuf(png_)) != 0) return 0;
        if (colour() == PNG_COLOR_TYPE_PALETTE) png_set_packing(png_);
        if (colour() == PNG_COLOR_TYPE_GRAY && depth() < 8) png_set_expand_gray_1_2_4_to_8(png_);
        if (depth() == 16 && colour() != PNG_COLOR_TYPE_GRAY) png_set_strip_16(png_);
        png_set_strip_alpha(png_);
        passes_ = png_set_interlace_handling(png_);
        png_read_update_info(png_, info_);
        return png_get_rowbytes(png_, info_);
    }

    [[nodiscard]] bool read_rows(std::uint8_t* samples, std::size_t stride) {
        if (setjmp(png_jmpbuf(png_)) != 0) return false;
        for (int pass = 0; pass < passes_; ++pass) {
            for (std::size_t row = 0; row < height(); ++row)
                png_read_row(png_, samples + row * stride, nullptr);
        }
        return true;
    }

    // Reads what follows the pixels; damage there does not matter.
    void read_end() {
        if (setjmp(png_jmpbuf(png_)) == 0) png_read_end(png_, info_);
    }

    [[nodiscard]] std::size_t width() const { return png_get_image_width(png_, info_); }
    [[nodiscard]] std::size_t height() const { return png_get_image_height(png_, info_); }
    [[nodiscard]] int colour() const { return png_get_color_type(png_, info_); }
    [[nodiscard]] int depth() const { return png_get_bit_depth(png_, info_); }
    [[nodiscard]] std::string message() const { return message_.data(); }

    // The palette's entries. An index without an entry is black, as in Pillow.
    [[nodiscard]] std::array<std::array<std::uint8_t, 3>, 256> palette() const {
        std::array<std::array<std::uint8_t, 3>, 256> colours{};
        png_colorp entries = nullptr;
        int count = 0;
        png_get_PLTE(png_, info_, &entries, &count);
        for (std::size_t i = 0; i < std::min(colours.size(), static_cast<std::size_t>(count)); ++i) {
            colours[i] = {entries[i].red, entries[i].green, entries[i].blue};
        }
        return colours;
    }

    [[nodiscard]] Bytes exif() const {
        png_uint_32 size = 0;
        png_bytep data = nullptr;
        if (png_get_eXIf_1(png_, info_, &size, &data) == 0) return {};
        return {data, size};
    }

    [[nodiscard]] std::string_view text(std::string_view keyword) const {
        png_textp texts = nullptr;
        int count = 0;
        png_get_text(png_, info_, &texts, &count);
        for (int i = 0; i < count; ++i) {
            if (keyword == texts[i].key)
                return {texts[i].text, std::max(texts[i].text_length, texts[i].itxt_length)};
        }
        return {};
    }

  private:
    [[noreturn]] static void keep_message(png_structp png, png_const_charp message) {
        auto* reader = static_cast<Reader*>(png_get_error_ptr(png));
        std::snprintf(reader->message_.data(), reader->message_.size(), "%s", message);
        png_longjmp(png, 1);
    }

    static void give(png_structp png, png_bytep out, std::size_t count) {
        auto* reader = static_cast<Reader*>(png_get_io_ptr(png));
        if (count > reader->rest_.size()) png_error(png, "the file is truncated");
        std::copy_n(reader->rest_.begin(), count, out);
        reader->rest_ = reader->rest_.subspan(count);
    }

    Bytes rest_;
    png_structp png_ = nullptr;
    png_infop info_ = nullptr;
    int passes_ = 1;
    std::array<char, 128> message_{};
};

// ImageMagick's way to keep EXIF in a text: a name and a length on lines of their own, then hexadecimal
// digits.
std::vector<std::uint8_t> from_raw_profile(std::string_view text) {
    for (int line = 0; line < 3; ++line) text.remove_prefix(std::min(text.size(), text.find('\n') + 1));
    std::vector<std::uint8_t> bytes;
    int high = -1;
    for (const char character : text) {
        const auto digit = std::string_view("0123456789abcdef").find(character);
        if (digit == std::string_view::npos) continue;
        if (high < 0) {
            high = static_cast<int>(digit);
        } else {
            bytes.push_back(static_cast<std::uint8_t>(high * 16 + static_cast<int>(digit)));
            high = -1;
        }
    }
    return bytes;
}

int orientation_of(const Reader& reader) {
    const Bytes exif = reader.exif();
    const auto orientation = exif.empty() ? exif_orientation(from_raw_profile(reader.text(kRawExifKeyword)))
                                          : exif_orientation(exif);
    if (orientation) return *orientation;
    return xmp_orientation(reader.text(kXmpKeyword)).value_or(1);
}

// Turns rows of samples into RGB.
std::vector<std::uint8_t> to_rgb(const Reader& reader, std::vector<std::uint8_t> samples) {
    const bool grey = (reader.colour() & PNG_COLOR_MASK_COLOR) == 0;
    const bool indexed = reader.colour() == PNG_COLOR_TYPE_PALETTE;
    if (!grey && !indexed) return samples;
    std::vector<std::uint8_t> pixels;
    pixels.reserve(3 * reader.width() * reader.height());
    if (indexed) {
        const auto palette = reader.palette();
        for (const std::uint8_t index : samples)
            pixels.insert(pixels.end(), palette[index].begin(), palette[index].end());
    } else if (reader.depth() == 16) {
        for (std::size_t i = 0; i < samples.size(); i += 2) {
            const unsigned value = samples[i] * 256u + samples[i + 1];
            pixels.insert(pixels.end(), 3, static_cast<std::uint8_t>((value + 128) / 257));
        }
    } else {
        for (const std::uint8_t value : samples) pixels.insert(pixels.end(), 3, value);
    }
    return pixels;
}

}  // namespace

Decoded decode_png(Bytes encoded, std::size_t max_pixels) {
    Reader reader(encoded);
    if (!reader.read_header()) throw BadInput("damaged PNG: " + reader.message());
    const std::size_t width = reader.width();
    const std::size_t height = reader.height();
    check_size(width, height, max_pixels);
    const std::size_t stride = reader.prepare();
    std::vector<std::uint8_t> samples(stride * height);
    if (stride == 0 || !reader.read_rows(samples.data(), stride))
        throw BadInput("damaged PNG: " + reader.message());
    reader.read_end();
    return {{width, height, to_rgb(reader, std::move(samples))}, orientation_of(reader)};
}

}  // namespace harness
