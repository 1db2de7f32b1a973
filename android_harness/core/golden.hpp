// Golden inputs and outputs, and how far a runtime's answer is from them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "job.hpp"

namespace bench {

struct Deviation {
    double cosine;                   // -1 where the answer holds infinity or NaN
    std::optional<double> relative;  // none there
};

// Cosine a.b / (|a| |b|) and relative deviation |b - a| / |a| in float64; `wanted` is a, `answer` b.
Deviation compare(const std::vector<double>& wanted, const std::vector<double>& answer);

// Of two deviations, what is worse of each figure.
Deviation worse(const Deviation& one, const Deviation& other);

bool passes(const Deviation& deviation, const Gate& gate);

// The values of a raw tensor (float32 or float16; others throw JobError).
std::vector<double> decode(const std::vector<std::byte>& raw, const std::string& dtype);

// Example number `index` of a raw file; throws JobError if the file is not as long as its shape says.
std::vector<std::byte> read_example(const std::filesystem::path& folder, const RawTensor& file, std::size_t index);

// The input where there is no golden one: pixels 0.5 (uint8: 128), ids start, end, padding.
std::vector<std::byte> constant_input(const Tensor& input);

}  // namespace bench
