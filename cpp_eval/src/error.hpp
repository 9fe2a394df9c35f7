// The one exception of this program.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace harness {

/// The text with a space for every line break and other control character, and none at its end. Messages
/// quote files and libraries, which may say anything.
[[nodiscard]] inline std::string one_line(std::string text) {
    constexpr unsigned char delete_character = 0x7f;
    const auto is_control = [](unsigned char c) { return c < ' ' || c == delete_character; };
    std::ranges::replace_if(text, is_control, ' ');
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

/// Something the user can act on: one line that names place, expectation and finding. The program ends with
/// code 2.
class BadInput : public std::runtime_error {
  public:
    explicit BadInput(std::string message) : std::runtime_error(one_line(std::move(message))) {}
};

}  // namespace harness
