// Files that survive a kill: appended or replaced, on the disk before the call returns.
#pragma once

#include <filesystem>
#include <string>

#include "job.hpp"

namespace bench {

// Compact JSON without a line break; broken UTF-8 is replaced.
std::string compact(const Json& value);

void append_line(const std::filesystem::path& file, const std::string& line);

// Writes a temporary file next to `file` and renames it: a reader sees the old file, the new one or none.
void replace_file(const std::filesystem::path& file, const std::string& text);

}  // namespace bench
