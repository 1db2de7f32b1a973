#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "golden.hpp"
#include "jobs.hpp"

using namespace bench;

namespace {

template <typename T>
std::vector<T> values(const std::vector<std::byte>& raw) {
    std::vector<T> found(raw.size() / sizeof(T));
    std::memcpy(found.data(), raw.data(), raw.size());
    return found;
}

template <typename T>
std::vector<std::byte> bytes(const std::vector<T>& of) {
    std::vector<std::byte> raw(of.size() * sizeof(T));
    std::memcpy(raw.data(), of.data(), raw.size());
    return raw;
}

}  // namespace

TEST_CASE("float16 becomes float32 exactly, and what is no embedding is refused") {
    const std::vector<std::uint16_t> halves{0x3C00, 0xC000, 0x3555, 0x7BFF, 0x0001, 0x0000, 0x7C00};
    const auto found = values<float>(float32_answer(bytes(halves), "float16"));
    CHECK(found[0] == 1.0F);
    CHECK(found[1] == -2.0F);
    CHECK(found[2] == 0.333251953125F);
    CHECK(found[3] == 65504.0F);
    CHECK(found[4] == std::ldexp(1.0F, -24));
    CHECK(found[5] == 0.0F);
    CHECK(std::isinf(found[6]));
    CHECK(float32_answer(bytes(halves), "float32") == bytes(halves));
    CHECK_THROWS_AS(float32_answer(bytes(halves), "int32"), JobError);
}

TEST_CASE("bytes are written in base64, at every length") {
    const std::string text = "Man!";
    const std::string found[] = {"", "TQ==", "TWE=", "TWFu", "TWFuIQ=="};
    for (std::size_t length = 0; length <= text.size(); ++length) {
        CHECK(base64(bytes(std::vector<char>(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(length)))) == found[length]);
    }
}

TEST_CASE("examples are read by their number, and a short file is refused") {
    const tests::Folder folder;
    const auto job = tests::job_in(folder.path);
    const auto& golden = *job.cell("a").golden;
    CHECK(values<float>(read_example(folder.path, golden.inputs, 1)) == std::vector<float>{4, 5, 6});
    tests::write(folder.path / "golden/in.bin", "short");
    CHECK_THROWS_WITH_AS(read_example(folder.path, golden.inputs, 0), doctest::Contains("push the job again"), JobError);
}

TEST_CASE("the constant input is grey, or an empty prompt") {
    CHECK(values<float>(constant_input({"x", "float32", {1, 2}})) == std::vector<float>{0.5F, 0.5F});
    CHECK(values<std::uint8_t>(constant_input({"x", "uint8", {1, 2}})) == std::vector<std::uint8_t>{128, 128});
    CHECK(values<std::uint16_t>(constant_input({"x", "float16", {1, 1}})) == std::vector<std::uint16_t>{0x3800});
    const std::vector<std::int64_t> prompt{49406, 49407, 0, 0};
    CHECK(values<std::int64_t>(constant_input({"x", "int64", {1, 4}})) == prompt);
}
