// The whole plan of a job: every turn in its order, each in a runner's process of its own.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <vector>

#include "job.hpp"

namespace bench {

struct PlanOptions {
    std::filesystem::path folder;   // the job's
    std::filesystem::path runners;  // where the runners' programs are
    std::chrono::milliseconds turn_limit{std::chrono::minutes(10)};
    std::filesystem::path loader;           // that starts the runners; empty: the system's
    std::map<int, std::vector<int>> cores;  // threads of a cell -> the cores that its rounds run on
    bool resume = false;
    bool first = false;  // the first round of each cell alone
    bool simulated = false;
};

// Runs what the stream does not hold yet and writes the record of all, `<run_id>.run.json`. Every round goes to stdout too, a line for people to
// stderr.
// Throws JobError if the job cannot be used or was begun before and `resume` is not set.
void run_plan(const PlanOptions& options);

}  // namespace bench
