#include <sys/stat.h>

#include "images/image.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

const std::filesystem::path kImages = std::filesystem::path(HARNESS_EVAL_FIXTURES) / "images";

// By how much two images differ at most; 256 where they differ in size.
int largest_difference(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
    if (a.size() != b.size()) return 256;
    int largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(int{a[i]} - int{b[i]}));
    return largest;
}

}  // namespace

TEST_CASE("pixels equal those of the Python package") {
    const auto index = json_of(kImages / "index.json");
    REQUIRE(index.size() >= 40);
    for (const auto& [file, size] : index.items()) {
        INFO(file);
        const Image image = read_image(kImages / file);
        CHECK(image.width == size["width"].get<std::size_t>());
        CHECK(image.height == size["height"].get<std::size_t>());
        CHECK(largest_difference(image.pixels, bytes_of(kImages / (file + ".rgb"))) == 0);
    }
}

TEST_CASE("a file that is no whole image is one line") {
    const auto broken = json_of(kImages / "broken.json");
    REQUIRE(broken.size() >= 10);
    for (const auto& [file, expected] : broken.items()) {
        const std::string message =
            error_of([&name = file] { static_cast<void>(read_image(kImages / "broken" / name)); });
        INFO(file << ": " << message);
        CHECK(contains(message, expected.get<std::string>()));
        CHECK_FALSE(contains(message, "\n"));
    }
}

TEST_CASE("an image cut off anywhere is refused or decoded, and never read beyond its end") {
    for (const char* file : {"rgb_420.jpg", "palette_4.png"}) {
        const auto whole = bytes_of(kImages / file);
        std::size_t refused = 0;
        for (std::size_t size = 0; size < whole.size(); ++size) {
            const std::vector<std::uint8_t> part(whole.begin(),
                                                 whole.begin() + static_cast<std::ptrdiff_t>(size));
            if (error_of([&part] { static_cast<void>(decode_image(part)); }) != "(no error)") ++refused;
        }
        CHECK(refused >= whole.size() * 9 / 10);
    }
}

TEST_CASE("an image with more pixels than allowed is refused before it is decoded") {
    const auto encoded = bytes_of(kImages / "rgb_420.jpg");
    CHECK(contains(error_of([&encoded] { static_cast<void>(decode_image(encoded, 10)); }),
                   "expected at most 10 pixels"));
}

TEST_CASE("a file that does not exist is an error") {
    CHECK(error_of([] { static_cast<void>(read_image(kImages / "missing.jpg")); }) ==
          "expected a readable file");
}

TEST_CASE("a file that opens and cannot be read is an error") {
    CHECK(error_of([] { static_cast<void>(read_image(kImages)); }) == "expected a readable file");
}

TEST_CASE("a file that is longer than allowed is an error") {
    CHECK(error_of([] { static_cast<void>(read_image(kImages / "rgb_420.jpg", 100)); }) ==
          "expected a file of at most 100 bytes, got a longer one");
}

TEST_CASE("what is no regular file is not opened, nor what links to it") {
    const auto folder = std::filesystem::temp_directory_path() / "harness_eval_kinds";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    REQUIRE(mkfifo((folder / "pipe.png").c_str(), 0600) == 0);
    std::filesystem::create_symlink("pipe.png", folder / "link.png");
    std::filesystem::create_symlink("/dev/zero", folder / "zero.png");
    for (const char* name : {"pipe.png", "link.png"}) {
        CHECK(error_of([&] { static_cast<void>(read_image(folder / name)); }) ==
              "expected a regular file, got a FIFO");
    }
    CHECK(error_of([&] { static_cast<void>(read_image(folder / "zero.png")); }) ==
          "expected a regular file, got a device");
    std::filesystem::remove_all(folder);
}
