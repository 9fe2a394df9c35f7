#include "bundle/mapping.hpp"

#include <algorithm>
#include <cstdint>

#include "bundle/rows.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

const std::filesystem::path kBundles = std::filesystem::path(HARNESS_EVAL_FIXTURES) / "bundles";
constexpr std::size_t kRows = 20;

hdf5::Object images_of(const hdf5::Object& file) {
    return hdf5::open_dataset(hdf5::open_group(hdf5::open_group(file, "conditions"), "clean"), "x");
}

}  // namespace

TEST_CASE("rows that were left as they are lie in the file as they are read") {
    const auto file = hdf5::open_file(kBundles / "none.h5");
    hdf5::Rows rows(images_of(file));
    const auto extent = hdf5::shape(images_of(file));
    const std::size_t values = extent[1] * extent[2] * extent[3];
    REQUIRE(extent[0] >= kRows);
    for (std::size_t row = 0; row < kRows; ++row) {
        std::vector<float> read(values);
        rows.read(row, 1, read);
        const auto stored = rows.stored(row);
        REQUIRE(stored);
        CHECK(std::ranges::equal(stored->values, read));
    }
}

TEST_CASE("rows that something has to be done to do not lie in the file") {
    for (const char* name : {"lzf.h5", "gzip.h5", "parts_of_rows.h5", "shuffled_only.h5", "shuffled_lzf.h5",
                             "big_endian.h5", "contiguous.h5", "user_block.h5"}) {
        INFO(name);
        const auto file = hdf5::open_file(kBundles / name);
        CHECK_FALSE(hdf5::Rows(images_of(file)).stored(0));
    }
}

TEST_CASE("a file in memory is not mapped") {
    const auto bytes = bytes_of(kBundles / "none.h5");
    const auto file = hdf5::open_image(std::as_bytes(std::span(bytes)));
    CHECK_FALSE(hdf5::Rows(images_of(file)).stored(0));
    CHECK_FALSE(hdf5::descriptor(file));
}

TEST_CASE("any bytes of a file can be mapped, and none beyond its end") {
    const auto bytes = bytes_of(kBundles / "none.h5");
    const auto file = hdf5::open_file(kBundles / "none.h5");
    const int descriptor = hdf5::descriptor(file).value();
    constexpr std::size_t within_a_page = 5000;
    for (const std::size_t offset : {std::size_t{0}, std::size_t{1}, within_a_page, bytes.size() - 1}) {
        const auto mapping = hdf5::Mapping::of(descriptor, offset, bytes.size() - offset);
        REQUIRE(mapping);
        CHECK(std::ranges::equal(mapping->bytes(), std::as_bytes(std::span(bytes).subspan(offset))));
    }
    CHECK_FALSE(hdf5::Mapping::of(descriptor, bytes.size() - 1, 2));
    CHECK_FALSE(hdf5::Mapping::of(descriptor, bytes.size() + 1, 1));
    CHECK_FALSE(hdf5::Mapping::of(descriptor, UINT64_MAX, 2));
    CHECK_FALSE(hdf5::Mapping::of(descriptor, 0, 0));
}

TEST_CASE("a mapping moves with its bytes") {
    const auto file = hdf5::open_file(kBundles / "none.h5");
    auto first = hdf5::Mapping::of(hdf5::descriptor(file).value(), 0, 8).value();
    const std::byte* const start = first.bytes().data();
    const hdf5::Mapping second = std::move(first);
    CHECK(second.bytes().data() == start);
    CHECK(std::to_integer<char>(second.bytes()[1]) == 'H');  // of the signature "\x89HDF..."
}
