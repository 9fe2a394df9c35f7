// Catch2 of either generation, and what several topics need.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
namespace harness {
using Catch::Approx;
}
#else
#include <catch2/catch.hpp>
namespace harness {
using Catch::Detail::Approx;
}
#endif

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "error.hpp"

namespace harness {

/// The message of the BadInput that `call` throws, or what shows that it threw none.
template <typename Call>
std::string error_of(Call&& call) {
    try {
        call();
    } catch (const BadInput& error) {
        return error.what();
    }
    return "(no error)";
}

inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

inline std::vector<std::uint8_t> bytes_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    REQUIRE(file.is_open());
    return {std::istreambuf_iterator<char>(file), {}};
}

inline nlohmann::json json_of(const std::filesystem::path& path) {
    std::ifstream file(path);
    REQUIRE(file.is_open());
    return nlohmann::json::parse(file);
}

}  // namespace harness
