// What every runner's main does: one turn, or its version.
#pragma once

#include "engine.hpp"

namespace bench {

// RUNNER --version            {"runtime": ..., "version": ...}
// RUNNER FOLDER CELL ROUND    the round, as one line of JSON
// Returns the exit code: 0 if a round was written (a failed one too), 2 for wrong use, 3 for a runtime that is missing.
int run_runner(int argc, char** argv, Engine& engine);

}  // namespace bench
