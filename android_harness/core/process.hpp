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

// Runs `program` and waits for it, at most `limit` long; then it is killed. Its stderr is ours.
// It dies with us, whatever ends us.
Outcome run_process(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                    std::chrono::milliseconds limit);

// SIGTERM, SIGINT and SIGHUP end us and whatever run_process has started.
void end_on_signals();

}  // namespace bench
