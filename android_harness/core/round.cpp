#include "round.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>
#include <thread>

#include "clock.hpp"
#include "golden.hpp"
#include "machine.hpp"

namespace bench {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;

void check_file(const std::filesystem::path& file, const Cell& cell) {
    std::error_code missing;
    const auto size = std::filesystem::file_size(file, missing);
    if (missing) throw JobError(cell.file + " is missing: push the job again");
    if (size != cell.bytes) {
        throw JobError(cell.file + " has " + std::to_string(size) + " bytes, the job says " +
                       std::to_string(cell.bytes) + ": push the job again");
    }
}

std::int64_t timed_load(Engine& engine, const std::filesystem::path& file, const Cell& cell) {
    const auto start = wall_ns();
    engine.load(file, cell);
    return wall_ns() - start;
}

std::vector<std::byte> first_input(const Cell& cell, const std::filesystem::path& folder) {
    auto input = cell.golden ? read_example(folder, cell.golden->inputs, 0) : constant_input(cell.input);
    if (input.size() != cell.input.bytes()) throw JobError("a golden input does not fit the cell's input");
    return input;
}

// The answers to the requested number of golden inputs, one after the other.
std::string answers_to_golden(const Job& job, const Cell& cell, Engine& engine, const std::filesystem::path& folder) {
    const auto available = static_cast<std::size_t>(cell.golden->inputs.shape[0]);
    const auto limit = static_cast<std::size_t>(job.protocol.golden_inputs);
    std::vector<std::byte> all;
    for (std::size_t i = 0; i < (limit == 0 ? available : std::min(limit, available)); ++i) {
        engine.feed(read_example(folder, cell.golden->inputs, i));
        engine.infer();
        const auto one = float32_answer(engine.answer(), cell.output.dtype);
        all.insert(all.end(), one.begin(), one.end());
    }
    return base64(all);
}

void measure(Json& found, const Protocol& protocol, Engine& engine) {
    for (std::int64_t i = 0; i < protocol.warm_up_iterations; ++i) engine.infer();
    std::vector<std::int64_t> samples;
    samples.reserve(static_cast<std::size_t>(std::max<std::int64_t>(protocol.iterations_per_round, 4096)));
    const auto enough = static_cast<std::int64_t>(protocol.seconds_per_round * kNanosecondsPerSecond);
    const auto cpu_before = cpu_ns();
    const auto first = wall_ns();
    auto end = first;
    std::map<int, std::int64_t> cores;
    while (static_cast<std::int64_t>(samples.size()) < protocol.iterations_per_round || end - first < enough) {
        const auto due = first + static_cast<std::int64_t>(static_cast<double>(samples.size()) * protocol.pace_milliseconds * 1e6);
        if (const auto now = wall_ns(); due > now) std::this_thread::sleep_for(std::chrono::nanoseconds(due - now));
        const auto start = wall_ns();
        engine.infer();
        end = wall_ns();
        samples.push_back(end - start);
        ++cores[current_core()];
    }
    // The clocks at once: they fall as soon as nothing runs.
    found["cores"] = cores_used(cores);
    found["cpu_ns"] = cpu_ns() - cpu_before;
    found["samples_ns"] = samples;
}

}  // namespace

std::string one_line(std::string text) {
    std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, ' ');
    const auto last = text.find_last_not_of(' ');
    return last == std::string::npos ? "unknown error" : text.substr(0, last + 1);
}

Json failed_round(const Job& job, const std::string& cell, std::int64_t round, const std::string& error) {
    return {{"run_id", job.run_id}, {"cell", cell}, {"round", round}, {"status", "failed"}, {"error", one_line(error)}};
}

Json run_round(const Job& job, const Cell& cell, std::int64_t round, Engine& engine, const std::filesystem::path& folder) {
    try {
        if (cell.runtime != engine.runtime()) throw JobError("this runner is for " + engine.runtime() + " cells");
        Json found{{"run_id", job.run_id}, {"cell", cell.id}, {"round", round}, {"status", "done"}};
        const auto file = folder / cell.file;
        check_file(file, cell);
        found["load_first_ns"] = timed_load(engine, file, cell);
        if (round == 0) {
            engine.unload();
            found["load_again_ns"] = timed_load(engine, file, cell);
        }
        const auto input = first_input(cell, folder);
        engine.feed(input);
        const auto start = wall_ns();
        engine.infer();
        found["first_inference_ns"] = wall_ns() - start;
        if (round == 0 && cell.golden) {
            found["answers"] = answers_to_golden(job, cell, engine, folder);
            engine.feed(input);
        }
        measure(found, job.protocol, engine);
        if (const auto peak = peak_memory_bytes()) found["peak_memory_bytes"] = *peak;
        return found;
    } catch (const std::exception& error) {
        return failed_round(job, cell.id, round, error.what());
    }
}

}  // namespace bench
