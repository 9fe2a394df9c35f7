// Work on files of unknown origin, in a process of its own.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

namespace harness {

/// Runs `work` in a child process and returns its exit code. HDF5 and the image libraries have faults of
/// their own that a damaged file can reach (Debian's HDF5 1.10.8 reads beyond a mutilated object header):
/// where one of them crashes, this throws BadInput. Any other signal that ends the child ends this process
/// too. Where `limit` is over before the child ends, the child is killed and this throws BadInput: a model
/// may hold a loop without an end. Call it before any thread is started.
int supervised(const std::function<int()>& work,
               std::optional<std::chrono::duration<double>> limit = std::nullopt);

}  // namespace harness
