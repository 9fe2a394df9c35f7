#include "progress.hpp"

#include <unistd.h>

#include <chrono>
#include <cstdio>

namespace harness {

namespace {

constexpr std::chrono::milliseconds kInterval{200};

}  // namespace

Progress::Progress(bool shown) : shown_(shown), terminal_(isatty(STDERR_FILENO) == 1) {}

void Progress::update(const std::string& task, std::size_t done, std::size_t total) {
    if (!shown_) return;
    const auto now = Clock::now();
    if (task != task_) {
        task_ = task;
        started_ = drawn_ = now;
    }
    const double elapsed = seconds_since(started_);
    if (done == total) {
        std::fprintf(stderr, "%s%s: %zu images in %.1f s\n", terminal_ ? "\r\x1b[K" : "", task.c_str(), total,
                     elapsed);
    } else if (terminal_ && now - drawn_ >= kInterval && done > 0) {
        const double left = elapsed * static_cast<double>(total - done) / static_cast<double>(done);
        std::fprintf(stderr, "\r\x1b[K%s: %zu/%zu images, %.0f s left", task.c_str(), done, total, left);
        drawn_ = now;
    }
}

}  // namespace harness
