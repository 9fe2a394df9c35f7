#include "images/jpeg.hpp"

#include <array>
#include <csetjmp>
#include <cstdio>
#include <string>
#include <string_view>

// After <cstdio>: the header needs FILE and does not include it.
#include <jpeglib.h>

#include "error.hpp"

namespace harness {

namespace {

using std::string_view_literals::operator""sv;

constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr unsigned kLongestMarker = 0xffff;
constexpr std::string_view kExifStart = "Exif\0\0"sv;
constexpr std::string_view kXmpStart = "http://ns.adobe.com/xap/1.0/\0"sv;

// libjpeg reports errors through a callback that must not return; it leaves by longjmp. No object with a
// destructor lives in a frame that is jumped over.
struct Errors {
    jpeg_error_mgr manager;  // first, so that its address is this one's
    std::jmp_buf escape;
    std::array<char, JMSG_LENGTH_MAX> message;
};

[[noreturn]] void leave(j_common_ptr info) {
    auto* errors = reinterpret_cast<Errors*>(info->err);
    errors->manager.format_message(info, errors->message.data());
    std::longjmp(errors->escape, 1);
}

[[noreturn]] void leave_truncated(j_decompress_ptr info) {
    auto* errors = reinterpret_cast<Errors*>(info->err);
    std::snprintf(errors->message.data(), errors->message.size(), "the file is truncated");
    std::longjmp(errors->escape, 1);
}

// As Pillow: more data than there is means truncated, not a grey rest of the image.
boolean no_more_data(j_decompress_ptr info) {
    leave_truncated(info);
}

void skip(j_decompress_ptr info, long count) {
    if (count <= 0) return;
    const auto wanted = static_cast<std::size_t>(count);
    if (wanted > info->src->bytes_in_buffer) leave_truncated(info);
    info->src->next_input_byte += wanted;
    info->src->bytes_in_buffer -= wanted;
}

class Decompressor {
  public:
    explicit Decompressor(Bytes encoded) {
        info_.err = jpeg_std_error(&errors_.manager);
        errors_.manager.error_exit = leave;
        errors_.manager.emit_message = [](j_common_ptr, int) {};
        source_.next_input_byte = encoded.data();
        source_.bytes_in_buffer = encoded.size();
        source_.init_source = [](j_decompress_ptr) {};
        source_.fill_input_buffer = no_more_data;
        source_.skip_input_data = skip;
        source_.resync_to_restart = jpeg_resync_to_restart;
        source_.term_source = [](j_decompress_ptr) {};
    }
    Decompressor(const Decompressor&) = delete;
    Decompressor& operator=(const Decompressor&) = delete;
    ~Decompressor() { jpeg_destroy_decompress(&info_); }

    // Reads up to the first scan.
    [[nodiscard]] bool read_header() {
        if (setjmp(errors_.escape) != 0) return false;
        jpeg_create_decompress(&info_);
        info_.src = &source_;
        jpeg_save_markers(&info_, kExifMarker, kLongestMarker);
        jpeg_read_header(&info_, TRUE);
        if (info_.num_components == 4) info_.out_color_space = JCS_CMYK;
        return true;
    }

    // Decodes all rows into `samples`, which holds components() values a pixel.
    [[nodiscard]] bool read_rows(std::uint8_t* samples) {
        if (setjmp(errors_.escape) != 0) return false;
        jpeg_start_decompress(&info_);
        const std::size_t stride =
            std::size_t{info_.output_width} * static_cast<std::size_t>(info_.output_components);
        while (info_.output_scanline < info_.output_height) {
            JSAMPROW row = samples + info_.output_scanline * stride;
            jpeg_read_scanlines(&info_, &row, 1);
        }
        jpeg_finish_decompress(&info_);
        return true;
    }

    [[nodiscard]] std::size_t width() const { return info_.image_width; }
    [[nodiscard]] std::size_t height() const { return info_.image_height; }
    [[nodiscard]] std::size_t components() const { return static_cast<std::size_t>(info_.num_components); }
    [[nodiscard]] std::string message() const { return errors_.message.data(); }

    // The payloads of the APP1 segments that begin with `start`, without it, one after the other.
    [[nodiscard]] std::string segments(std::string_view start) const {
        std::string found;
        for (const jpeg_marker_struct* marker = info_.marker_list; marker != nullptr; marker = marker->next) {
            const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
            if (marker->marker == kExifMarker && data.starts_with(start)) found += data.substr(start.size());
        }
        return found;
    }

  private:
    jpeg_decompress_struct info_{};
    Errors errors_{};
    jpeg_source_mgr source_{};
};

// a * b / 255, rounded as Pillow rounds it.
unsigned scaled(unsigned a, unsigned b) {
    const unsigned product = a * b + 128;
    return ((product >> 8) + product) >> 8;
}

void append_rgb(std::vector<std::uint8_t>& pixels, const std::uint8_t* sample, std::size_t components) {
    if (components == 1) {
        pixels.insert(pixels.end(), 3, sample[0]);
    } else if (components == 3) {
        pixels.insert(pixels.end(), sample, sample + 3);
    } else {
        // Inverted CMYK: 255 is no ink, so the last sample is what black leaves over.
        const unsigned left = sample[3];
        for (std::size_t i = 0; i < 3; ++i) {
            pixels.push_back(static_cast<std::uint8_t>(left - scaled(255u - sample[i], left)));
        }
    }
}

int orientation_of(const Decompressor& decompressor) {
    const std::string exif = decompressor.segments(kExifStart);
    const Bytes bytes(reinterpret_cast<const std::uint8_t*>(exif.data()), exif.size());
    if (const auto orientation = exif_orientation(bytes)) return *orientation;
    return xmp_orientation(decompressor.segments(kXmpStart)).value_or(1);
}

}  // namespace

Decoded decode_jpeg(Bytes encoded, std::size_t max_pixels) {
    Decompressor decompressor(encoded);
    if (!decompressor.read_header()) throw BadInput("damaged JPEG: " + decompressor.message());
    const std::size_t width = decompressor.width();
    const std::size_t height = decompressor.height();
    const std::size_t components = decompressor.components();
    if (components != 1 && components != 3 && components != 4) {
        throw BadInput("expected a JPEG of 1, 3 or 4 components, got " + std::to_string(components));
    }
    check_size(width, height, max_pixels);
    const int orientation =
        orientation_of(decompressor);  // before the last row: then libjpeg forgets the segments
    std::vector<std::uint8_t> samples(width * height * components);
    if (!decompressor.read_rows(samples.data())) throw BadInput("damaged JPEG: " + decompressor.message());

    Decoded decoded{{width, height, {}}, orientation};
    if (components == 3) {
        decoded.image.pixels = std::move(samples);
        return decoded;
    }
    decoded.image.pixels.reserve(3 * width * height);
    for (std::size_t i = 0; i < width * height; ++i)
        append_rgb(decoded.image.pixels, &samples[i * components], components);
    return decoded;
}

}  // namespace harness
