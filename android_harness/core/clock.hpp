// Time and memory of this process.
#pragma once

#include <cstdint>
#include <optional>

namespace bench {

std::int64_t wall_ns();  // monotonic
std::int64_t cpu_ns();   // of all threads
std::optional<std::int64_t> peak_memory_bytes();  // VmHWM

}  // namespace bench
