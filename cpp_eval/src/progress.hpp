// Progress on stderr: a line that is redrawn on a terminal, a line for each finished task elsewhere.
#pragma once

#include <cstddef>
#include <string>

#include "clock.hpp"

namespace harness {

class Progress {
  public:
    explicit Progress(bool shown);

    /// Tells that `done` of `total` items of a task are done, and by the way that they all are.
    void update(const std::string& task, std::size_t done, std::size_t total);

  private:
    bool shown_;
    bool terminal_;
    std::string task_;
    Clock::time_point started_;
    Clock::time_point drawn_;
};

}  // namespace harness
