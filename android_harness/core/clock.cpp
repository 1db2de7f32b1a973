#include "clock.hpp"

#include <ctime>
#include <fstream>
#include <string>

namespace bench {
namespace {

std::int64_t time_of(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

std::int64_t wall_ns() { return time_of(CLOCK_MONOTONIC); }

std::int64_t cpu_ns() { return time_of(CLOCK_PROCESS_CPUTIME_ID); }

std::optional<std::int64_t> peak_memory_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
    }
    return std::nullopt;
}

}  // namespace bench
