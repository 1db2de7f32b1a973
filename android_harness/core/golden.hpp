// Golden inputs, and a runtime's answers to them on their way to who knows what they should be.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "job.hpp"

namespace bench {

// An answer as float32 (of float32 or float16; others throw JobError).
std::vector<std::byte> float32_answer(const std::vector<std::byte>& raw, const std::string& dtype);

std::string base64(const std::vector<std::byte>& raw);

// Example number `index` of a raw file; throws JobError if the file is not as long as its shape says.
std::vector<std::byte> read_example(const std::filesystem::path& folder, const RawTensor& file, std::size_t index);

// The input where there is no golden one: pixels 0.5 (uint8: 128), ids start, end, padding.
std::vector<std::byte> constant_input(const Tensor& input);

}  // namespace bench
