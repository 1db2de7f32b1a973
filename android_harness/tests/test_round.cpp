#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "golden.hpp"
#include "jobs.hpp"
#include "round.hpp"
#include "stream.hpp"

using namespace bench;

namespace {

// Answers `factor` times its input, and counts its calls.
class Twice : public Engine {
  public:
    std::string runtime() const override { return "onnxruntime"; }
    std::string version() const override { return "0"; }
    void load(const std::filesystem::path&, const Cell&) override { ++loads; }
    void unload() override {}
    void feed(const std::vector<std::byte>& input) override { fed = input; }
    void infer() override {
        ++calls;
        if (calls == broken_call) throw std::runtime_error("no memory\nleft");
    }
    std::vector<std::byte> answer() const override {
        std::vector<float> numbers(fed.size() / sizeof(float));
        std::memcpy(numbers.data(), fed.data(), fed.size());
        for (auto& number : numbers) number *= factor;
        std::vector<std::byte> raw(fed.size());
        std::memcpy(raw.data(), numbers.data(), raw.size());
        return raw;
    }

    float factor = 2;
    int loads = 0;
    int calls = 0;
    int broken_call = -1;
    std::vector<std::byte> fed;
};

struct MeasuredRound {
    explicit MeasuredRound(const Json& document = tests::job()) : job(tests::job_in(folder.path, document)) {}
    Json run(int round) { return run_round(job, job.cell("a"), round, engine, folder.path); }

    tests::Folder folder;
    Job job;
    Twice engine;
};

}  // namespace

TEST_CASE("round 0 loads twice, answers every golden input, warms up and measures") {
    MeasuredRound it;
    const auto found = it.run(0);
    REQUIRE(found["status"] == "done");
    CHECK(is_round(found, it.job));
    CHECK(it.engine.loads == 2);
    CHECK(it.engine.calls == 1 + 2 + 1 + 3);  // first, golden, warm-up, samples
    CHECK(found["samples_ns"].size() == 3);
    CHECK(found["answers"] == "AAAAQAAAgEAAAMBAAAAAQQAAIEEAAEBB");  // 2, 4, 6, 8, 10, 12
    CHECK_FALSE(found.contains("golden"));
    CHECK(found["peak_memory_bytes"].get<std::int64_t>() > 0);
    std::int64_t counted = 0;
    for (const auto& core : found["cores"]) counted += core["inferences"].get<std::int64_t>();
    CHECK(counted == 3);
    CHECK(it.engine.fed.size() == 12);
}

TEST_CASE("a later round loads once and answers nothing") {
    MeasuredRound it;
    const auto found = it.run(1);
    CHECK(it.engine.loads == 1);
    CHECK_FALSE(found.contains("answers"));
    CHECK_FALSE(found.contains("load_again_ns"));
    CHECK(found["samples_ns"].size() == 3);
}

TEST_CASE("answers that are not finite go back as they are, and of a float16 output as float32") {
    auto document = tests::job();
    document["cells"][0]["output"]["dtype"] = "float16";
    document["protocol"]["golden_inputs"] = 1;
    MeasuredRound it(document);
    it.engine.factor = NAN;
    const auto found = it.run(0);
    CHECK(found["status"] == "done");
    // Halves 0x0000, 0x7FC0, three times: zero and no number.
    CHECK(found["answers"] == base64(float32_answer(it.engine.answer(), "float16")));
}

TEST_CASE("without golden files the input is a constant one") {
    auto document = tests::job();
    document["cells"][0].erase("golden");
    document["cells"][0].erase("gate");
    MeasuredRound it(document);
    CHECK(it.run(0)["status"] == "done");
    float first = 0;
    std::memcpy(&first, it.engine.fed.data(), sizeof(first));
    CHECK(first == 0.5F);
}

TEST_CASE("a round lasts for as long as the protocol says") {
    auto document = tests::job();
    document["protocol"]["seconds_per_round"] = 0.02;
    MeasuredRound it(document);
    const auto found = it.run(1);
    CHECK(found["samples_ns"].size() > 3);
}

TEST_CASE("what goes wrong is one line of a failed round") {
    MeasuredRound it;
    it.engine.broken_call = 1;
    auto found = it.run(0);
    CHECK(found["status"] == "failed");
    CHECK(found["error"] == "no memory left");
    tests::write(it.folder.path / "models/a.bin", "half");
    CHECK(it.run(0)["error"] == "models/a.bin has 4 bytes, the job says 5: push the job again");
    std::filesystem::remove(it.folder.path / "models/a.bin");
    CHECK(it.run(0)["error"] == "models/a.bin is missing: push the job again");
}
