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

TEST_CASE("cosine and relative deviation are what the document says") {
    const auto same = compare({3, 4}, {6, 8});
    CHECK(same.cosine == doctest::Approx(1.0));
    CHECK(*same.relative == doctest::Approx(1.0));
    const auto turned = compare({1, 0}, {0, 2});
    CHECK(turned.cosine == doctest::Approx(0.0));
    CHECK(*turned.relative == doctest::Approx(std::sqrt(5.0)));
}

TEST_CASE("an answer that is not finite, or all zeros, never passes") {
    const Gate lax_cosine{"cosine", 0.5}, lax_relative{"relative", 1e9};
    for (const double wrong : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
        const auto found = compare({1, 1}, {1, wrong});
        CHECK(found.cosine == -1.0);
        CHECK_FALSE(found.relative.has_value());
        CHECK_FALSE(passes(found, lax_cosine));
        CHECK_FALSE(passes(found, lax_relative));
    }
    CHECK_FALSE(passes(compare({1, 1}, {0, 0}), lax_cosine));
}

TEST_CASE("the gate's bound itself passes") {
    CHECK(passes({0.98, 1.0}, {"cosine", 0.98}));
    CHECK_FALSE(passes({0.9799, 1.0}, {"cosine", 0.98}));
    CHECK(passes({0.0, 1e-4}, {"relative", 1e-4}));
    CHECK_FALSE(passes({1.0, 1.1e-4}, {"relative", 1e-4}));
}

TEST_CASE("the worst of several inputs counts, figure by figure") {
    const auto both = worse({0.9, 0.1}, {0.8, 0.05});
    CHECK(both.cosine == 0.8);
    CHECK(*both.relative == 0.1);
    CHECK_FALSE(worse({0.9, 0.1}, {-1.0, std::nullopt}).relative.has_value());
}

TEST_CASE("float16 is read exactly") {
    const std::vector<std::uint16_t> halves{0x3C00, 0xC000, 0x3555, 0x7BFF, 0x0001, 0x0000, 0x7C00};
    const auto found = decode(bytes(halves), "float16");
    CHECK(found[0] == 1.0);
    CHECK(found[1] == -2.0);
    CHECK(found[2] == 0.333251953125);
    CHECK(found[3] == 65504.0);
    CHECK(found[4] == std::ldexp(1.0, -24));
    CHECK(found[5] == 0.0);
    CHECK(std::isinf(found[6]));
    CHECK_THROWS_AS(decode(bytes(halves), "int32"), JobError);
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
    CHECK(decode(constant_input({"x", "float16", {1, 1}}), "float16")[0] == 0.5);
    const std::vector<std::int64_t> prompt{49406, 49407, 0, 0};
    CHECK(values<std::int64_t>(constant_input({"x", "int64", {1, 4}})) == prompt);
}
