#include "supervisor.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <thread>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "error.hpp"

namespace harness {

namespace {

constexpr std::array kCrashes = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

// Whoever stops the parent means the child.
void end_with_parent(pid_t parent) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    if (getppid() != parent) std::_Exit(EXIT_FAILURE);
}

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
constexpr std::chrono::milliseconds kPoll{20};

// What waitpid says of a child, again where a signal interrupted it; 0 where it runs on and `options` lets
// it.
pid_t wait_for(pid_t child, int& status, int options) {
    pid_t ended = -1;
    while ((ended = waitpid(child, &status, options)) < 0) {
        if (errno != EINTR)
            throw BadInput(std::string("expected to wait for a child process: ") + std::strerror(errno));
    }
    return ended;
}

void wait_until_end(pid_t child, int& status, std::optional<Seconds> limit) {
    if (!limit) {
        wait_for(child, status, 0);
        return;
    }
    const auto started = Clock::now();
    while (wait_for(child, status, WNOHANG) == 0) {
        if (Clock::now() - started >= *limit) {
            kill(child, SIGKILL);
            wait_for(child, status, 0);
            std::ostringstream message;
            message << "--timeout: expected an end within " << limit->count() << " s, got none";
            throw BadInput(message.str());
        }
        std::this_thread::sleep_for(kPoll);
    }
}

}  // namespace

int supervised(const std::function<int()>& work, std::optional<std::chrono::duration<double>> limit) {
    std::fflush(nullptr);
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) return work();
    if (child == 0) {
        end_with_parent(parent);
        std::exit(work());
    }
    int status = 0;
    wait_until_end(child, status, limit);
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    const int signal = WTERMSIG(status);
    if (std::ranges::find(kCrashes, signal) != kCrashes.end()) {
        throw BadInput(std::string("expected files that are whole; a library crashed on what it read: ") +
                       strsignal(signal));
    }
    std::signal(signal, SIG_DFL);
    std::raise(signal);
    return EXIT_FAILURE;
}

}  // namespace harness
