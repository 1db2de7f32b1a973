#include "golden.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>

namespace bench {
namespace {

constexpr std::int64_t kStartOfText = 49406;
constexpr std::int64_t kEndOfText = 49407;

float half_to_float(std::uint16_t bits) {
    const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
    const int exponent = (bits >> 10) & 0x1F;
    const float fraction = bits & 0x3FF;
    if (exponent == 0) return sign * std::ldexp(fraction, -24);
    if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
    return sign * std::ldexp(1024.0F + fraction, exponent - 25);
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

std::vector<std::byte> float32_answer(const std::vector<std::byte>& raw, const std::string& dtype) {
    if (dtype == "float32") return raw;
    if (dtype != "float16") throw JobError("an embedding is float32 or float16, not " + dtype);
    std::vector<std::byte> found(2 * raw.size());
    for (std::size_t i = 0; i + 1 < raw.size(); i += 2) {
        std::uint16_t half;
        std::memcpy(&half, raw.data() + i, sizeof(half));
        const float value = half_to_float(half);
        std::memcpy(found.data() + 2 * i, &value, sizeof(value));
    }
    return found;
}

std::string base64(const std::vector<std::byte>& raw) {
    constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((raw.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < raw.size(); i += 3) {
        std::uint32_t bits = 0;
        for (std::size_t j = i; j < i + 3; ++j) bits = bits << 8 | (j < raw.size() ? std::to_integer<std::uint32_t>(raw[j]) : 0);
        for (int shift = 18; shift >= 0; shift -= 6) text.push_back(kLetters[bits >> shift & 63]);
    }
    std::fill_n(text.rbegin(), (3 - raw.size() % 3) % 3, '=');
    return text;
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
