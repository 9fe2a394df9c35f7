#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>

#include "error.hpp"
#include "supervisor.hpp"
#include "testing.hpp"

TEST_CASE("the exit code is that of the work") {
    CHECK(harness::supervised([] { return 0; }) == 0);
    CHECK(harness::supervised([] { return 1; }) == 1);
}

TEST_CASE("what the work changes in memory stays in its process") {
    int count = 0;
    CHECK(harness::supervised([&] { return ++count; }) == 1);
    CHECK(count == 0);
}

TEST_CASE("a crash is bad input, told in one line") {
    std::string message;
    try {
        harness::supervised([] {
            std::signal(SIGABRT, SIG_DFL);  // the test runner has a handler of its own
            return std::raise(SIGABRT);
        });
    } catch (const harness::BadInput& error) {
        message = error.what();
    }
    CHECK(message.find("a library crashed") != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
}

TEST_CASE("work that takes longer than it may is killed and told in one line") {
    using Seconds = std::chrono::duration<double>;
    const auto started = std::chrono::steady_clock::now();
    std::string message;
    try {
        harness::supervised(
            [] {
                std::this_thread::sleep_for(std::chrono::seconds(20));
                return 0;
            },
            Seconds{0.2});
    } catch (const harness::BadInput& error) {
        message = error.what();
    }
    CHECK(message == "--timeout: expected an end within 0.2 s, got none");
    CHECK(std::chrono::steady_clock::now() - started < std::chrono::seconds(10));
    CHECK(harness::supervised([] { return 3; }, Seconds{60}) == 3);
}
