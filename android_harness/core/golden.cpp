#include "golden.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>

namespace bench {
namespace {

constexpr std::int64_t kStartOfText = 49406;
constexpr std::int64_t kEndOfText = 49407;

double half_to_double(std::uint16_t bits) {
    const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    const int exponent = (bits >> 10) & 0x1F;
    const double fraction = bits & 0x3FF;
    if (exponent == 0) return sign * std::ldexp(fraction, -24);
    if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
    return sign * std::ldexp(1024.0 + fraction, exponent - 25);
}

template <typename T>
std::vector<std::byte> filled(std::size_t count, T value) {
    std::vector<T> values(count, value);
    std::vector<std::byte> raw(count * sizeof(T));
    std::memcpy(raw.data(), values.data(), raw.size());
    return raw;
}

template <typename T>
std::vector<std::byte> empty_prompt(std::size_t count) {
    auto raw = filled<T>(count, 0);
    const T ids[] = {static_cast<T>(kStartOfText), static_cast<T>(kEndOfText)};
    std::memcpy(raw.data(), ids, std::min(sizeof(ids), raw.size()));
    return raw;
}

}  // namespace

Deviation compare(const std::vector<double>& wanted, const std::vector<double>& answer) {
    if (wanted.size() != answer.size()) {
        throw JobError("the answer holds " + std::to_string(answer.size()) + " values, the golden output " +
                       std::to_string(wanted.size()));
    }
    double dot = 0, wanted_square = 0, answer_square = 0, distance_square = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (!std::isfinite(answer[i])) return {-1.0, std::nullopt};
        const double distance = answer[i] - wanted[i];
        dot += wanted[i] * answer[i];
        wanted_square += wanted[i] * wanted[i];
        answer_square += answer[i] * answer[i];
        distance_square += distance * distance;
    }
    if (wanted_square == 0) throw JobError("a golden output is all zeros: write the job again");
    const double length = std::sqrt(wanted_square) * std::sqrt(answer_square);
    return {length == 0 ? 0.0 : dot / length, std::sqrt(distance_square) / std::sqrt(wanted_square)};
}

Deviation worse(const Deviation& one, const Deviation& other) {
    Deviation both{std::min(one.cosine, other.cosine), std::nullopt};
    if (one.relative && other.relative) both.relative = std::max(*one.relative, *other.relative);
    return both;
}

bool passes(const Deviation& deviation, const Gate& gate) {
    if (gate.metric == "cosine") return deviation.cosine >= gate.bound;
    return deviation.relative.has_value() && *deviation.relative <= gate.bound;
}

std::vector<double> decode(const std::vector<std::byte>& raw, const std::string& dtype) {
    std::vector<double> values(raw.size() / dtype_bytes(dtype));
    if (dtype == "float32") {
        std::vector<float> floats(values.size());
        std::memcpy(floats.data(), raw.data(), floats.size() * sizeof(float));
        std::copy(floats.begin(), floats.end(), values.begin());
    } else if (dtype == "float16") {
        std::vector<std::uint16_t> halves(values.size());
        std::memcpy(halves.data(), raw.data(), halves.size() * sizeof(std::uint16_t));
        std::transform(halves.begin(), halves.end(), values.begin(), half_to_double);
    } else {
        throw JobError("an embedding is float32 or float16, not " + dtype);
    }
    return values;
}

std::vector<std::byte> read_example(const std::filesystem::path& folder, const RawTensor& file, std::size_t index) {
    std::size_t example = dtype_bytes(file.dtype);
    for (std::size_t i = 1; i < file.shape.size(); ++i) example *= static_cast<std::size_t>(file.shape[i]);
    const auto path = folder / file.file;
    std::error_code missing;
    const auto size = std::filesystem::file_size(path, missing);
    const auto wanted = example * static_cast<std::size_t>(file.shape[0]);
    if (missing || size != wanted) {
        throw JobError(file.file + " is missing or not " + std::to_string(wanted) + " bytes long: push the job again");
    }
    if (index >= static_cast<std::size_t>(file.shape[0])) throw JobError(file.file + " holds fewer examples");
    std::vector<std::byte> raw(example);
    std::ifstream stream(path, std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(index * example));
    if (!stream.read(reinterpret_cast<char*>(raw.data()), static_cast<std::streamsize>(example))) {
        throw JobError(file.file + " cannot be read: push the job again");
    }
    return raw;
}

std::vector<std::byte> constant_input(const Tensor& input) {
    const auto count = input.elements();
    if (input.dtype == "float32") return filled<float>(count, 0.5F);
    if (input.dtype == "float16") return filled<std::uint16_t>(count, 0x3800);  // 0.5
    if (input.dtype == "uint8") return filled<std::uint8_t>(count, 128);
    return input.dtype == "int32" ? empty_prompt<std::int32_t>(count) : empty_prompt<std::int64_t>(count);
}

}  // namespace bench
