// A thread that prepares the next items while the current one is worked on.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

namespace harness {

/// Runs `produce` in a thread of its own, a fixed number of items ahead. Items are recycled in turns, so
/// their buffers are allocated once, by the first items, and memory does not grow.
template <typename Item>
class Prefetcher {
  public:
    /// Fills an item, whose old contents do not matter; returns false when there is no more.
    using Produce = std::function<bool(Item&)>;

    Prefetcher(Produce produce, std::size_t ahead)
        : produce_(std::move(produce)),
          free_(ahead + 1),
          thread_([this](const std::stop_token& stop) { run(stop); }) {}

    /// Waits for the next item; none at the end. The item before is given back by this. Rethrows what
    /// `produce` threw.
    [[nodiscard]] const Item* next() {
        std::unique_lock lock(mutex_);
        if (current_) free_.push_back(*std::exchange(current_, std::nullopt));
        changed_.notify_all();
        changed_.wait(lock, [this] { return !ready_.empty() || ended_; });
        if (!ready_.empty()) {
            current_ = std::move(ready_.front());
            ready_.pop_front();
            return &*current_;
        }
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
        return nullptr;
    }

  private:
    void run(const std::stop_token& stop) {
        try {
            while (std::optional<Item> item = take_free(stop)) {
                if (!produce_(*item)) break;
                const std::lock_guard lock(mutex_);
                ready_.push_back(*std::move(item));
                changed_.notify_all();
            }
        } catch (...) {
            const std::lock_guard lock(mutex_);
            error_ = std::current_exception();
        }
        const std::lock_guard lock(mutex_);
        ended_ = true;
        changed_.notify_all();
    }

    std::optional<Item> take_free(const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        if (!changed_.wait(lock, stop, [this] { return !free_.empty(); })) return std::nullopt;
        std::optional<Item> item = std::move(free_.front());
        free_.pop_front();
        return item;
    }

    Produce produce_;
    std::mutex mutex_;
    std::condition_variable_any changed_;
    std::deque<Item> free_;
    std::deque<Item> ready_;
    std::optional<Item> current_;
    std::exception_ptr error_;
    bool ended_ = false;
    std::jthread thread_;  // last: it starts when all else exists, and ends before anything is destroyed
};

}  // namespace harness
