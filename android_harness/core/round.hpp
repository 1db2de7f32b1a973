// One round of one cell, as described in docs/measuring.md.
#pragma once

#include <filesystem>
#include <string>

#include "engine.hpp"
#include "job.hpp"

namespace bench {

// The round as one object of the stream. What goes wrong is in it (`failed`): nothing is thrown.
Json run_round(const Job& job, const Cell& cell, std::int64_t round, Engine& engine, const std::filesystem::path& folder);

// A round that could not be run, or did not come to its end.
Json failed_round(const Job& job, const std::string& cell, std::int64_t round, const std::string& error);

// One line: what foreign code says may hold line breaks and broken UTF-8.
std::string one_line(std::string text);

}  // namespace bench
