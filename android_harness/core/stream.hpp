// The stream of finished rounds, `<run_id>.rounds.jsonl`: what an interruption cannot take away.
#pragma once

#include <filesystem>
#include <vector>

#include "job.hpp"

namespace bench {

std::filesystem::path stream_file(const std::filesystem::path& folder, const Job& job);

// True if `line` is a round of this job: a turn of its order, with a known status.
bool is_round(const Json& line, const Job& job);

// The finished rounds. A last line that was cut off is removed from the file, so that the next one starts on its own line;
// a whole line that is no round of this job throws JobError.
std::vector<Json> read_stream(const std::filesystem::path& folder, const Job& job);

// The turns still to be run: none that is there, none of a cell that failed or answered wrongly.
std::vector<Turn> outstanding(const Job& job, const std::vector<Json>& finished);

}  // namespace bench
