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
#include <string>

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

}  // namespace

int supervised(const std::function<int()>& work) {
    std::fflush(nullptr);
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) return work();
    if (child == 0) {
        end_with_parent(parent);
        std::exit(work());
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            throw BadInput(std::string("expected to wait for a child process: ") + std::strerror(errno));
    }
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
