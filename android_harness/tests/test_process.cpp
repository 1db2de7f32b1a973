#include <doctest/doctest.h>

#include <csignal>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "jobs.hpp"
#include "lock.hpp"
#include "process.hpp"

using namespace bench;
using namespace std::chrono_literals;

namespace {

Outcome shell(const std::string& script, std::chrono::milliseconds limit = 60s) {
    return run_process("/bin/sh", {"-c", script}, limit);
}

}  // namespace

TEST_CASE("what a program writes comes back, however much it is") {
    CHECK(shell("printf '%s' \"$0\"").error.empty());
    CHECK(shell("head -c 300000 /dev/zero").output.size() == 300000);
    CHECK(run_process("/bin/echo", {"two words", "$(id)"}, 60s).output == "two words $(id)\n");
}

TEST_CASE("every way to end badly is described") {
    CHECK(shell("exit 3").error == "sh ended with exit code 3");
    CHECK(shell("kill -SEGV $$").error.find("signal 11") != std::string::npos);
    CHECK(shell("kill -KILL $$").error.find("out of memory, perhaps") != std::string::npos);
    CHECK(run_process("/nowhere/runner", {}, 60s).error == "runner is not there: build it and push it with the other runners");
    const tests::Folder folder;
    tests::write(folder.path / "text", "no program");
    CHECK(run_process(folder.path / "text", {}, 60s).error.find("cannot be executed here") != std::string::npos);
}

TEST_CASE("a program runs on the cores that it is pinned to") {
    const auto found = run_process("/bin/grep", {"Cpus_allowed_list", "/proc/self/status"}, 60s, {{}, {0}});
    CHECK(found.output == "Cpus_allowed_list:\t0\n");
}

TEST_CASE("a program that hangs is killed") {
    CHECK(run_process("/bin/sleep", {"600"}, 200ms).error == "sleep gave no answer within 0 s and was killed");
}

TEST_CASE("a lock is one process's, and whoever holds it can be ended") {
    const tests::Folder folder;
    const auto file = folder.path / "lock";
    CHECK(end_lock_holder(file));
    CHECK_FALSE(is_held(file));
    const pid_t holder = fork();
    if (holder == 0) {
        signal(SIGTERM, SIG_DFL);  // doctest catches it
        const DeviceLock lock(file);
        pause();
        _exit(0);
    }
    for (int i = 0; i < 1000 && tests::read(file).empty(); ++i) std::this_thread::sleep_for(10ms);
    CHECK(is_held(file));
    CHECK_THROWS_AS(DeviceLock{file}, DeviceBusy);
    CHECK(end_lock_holder(file));
    int status = 0;
    waitpid(holder, &status, 0);
    CHECK(WIFSIGNALED(status));
    CHECK_NOTHROW(DeviceLock{file});
}
