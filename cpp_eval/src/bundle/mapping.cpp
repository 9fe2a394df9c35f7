#include "bundle/mapping.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace harness::hdf5 {

std::optional<int> descriptor(const Object& object) {
    const Handle file{H5Iget_file_id(object.id()), H5Fclose};
    const Handle access{file ? H5Fget_access_plist(file.id()) : H5I_INVALID_HID, H5Pclose};
    const Handle creation{file ? H5Fget_create_plist(file.id()) : H5I_INVALID_HID, H5Pclose};
    hsize_t user_block = 0;
    void* found = nullptr;
    if (!access || H5Pget_driver(access.id()) != H5FD_SEC2) return std::nullopt;
    if (!creation || H5Pget_userblock(creation.id(), &user_block) < 0 || user_block > 0) return std::nullopt;
    if (H5Fget_vfd_handle(file.id(), H5P_DEFAULT, &found) < 0) return std::nullopt;
    return *static_cast<const int*>(found);
}

std::optional<Mapping> Mapping::of(int descriptor, std::uint64_t offset, std::size_t count) {
    struct stat status {};
    if (count == 0 || fstat(descriptor, &status) < 0) return std::nullopt;
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (offset > size || count > size - offset) return std::nullopt;

    const std::size_t before = offset % static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    const std::size_t mapped = before + count;
    void* const start =
        mmap(nullptr, mapped, PROT_READ, MAP_SHARED, descriptor, static_cast<off_t>(offset - before));
    if (start == MAP_FAILED) return std::nullopt;
    Pages pages(static_cast<std::byte*>(start), Unmap{mapped});
    const std::span bytes(pages.get() + before, count);
    return Mapping(std::move(pages), bytes);
}

void Mapping::Unmap::operator()(std::byte* pages) const {
    munmap(pages, size);
}

}  // namespace harness::hdf5
