// The one exception of this program.
#pragma once

#include <stdexcept>

namespace harness {

/// Something the user can act on: one line that names place, expectation and finding. The program ends with
/// code 2.
class BadInput : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace harness
