// A runner in a process of its own: its crash, its threads and its memory touch nothing else.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace bench {

struct Outcome {
    std::string output;  // what it wrote to stdout
    std::string error;   // why there is no answer to be used; empty if it ended well
};

// How a program is started: by which loader (empty: the system's), which looks for libraries next to the program; and on
// which cores (empty: on any; what the system refuses is not done, and a round's `cores` show it).
struct Start {
    std::filesystem::path loader;
    std::vector<int> cores;
};

// Runs `program` and waits for it, at most `limit` long; then it is killed. Its stderr is ours.
// It dies with us, whatever ends us.
Outcome run_process(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                    std::chrono::milliseconds limit, const Start& start = {});

// SIGTERM, SIGINT and SIGHUP end us and whatever run_process has started.
void end_on_signals();

}  // namespace bench
