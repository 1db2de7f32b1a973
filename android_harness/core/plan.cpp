#include "plan.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <thread>

#include "clock.hpp"
#include "files.hpp"
#include "machine.hpp"
#include "process.hpp"
#include "round.hpp"
#include "stream.hpp"

namespace bench {
namespace {

constexpr std::chrono::milliseconds kVersionLimit = std::chrono::minutes(1);

// The program that runs a runtime's cells.
std::string program(const std::string& runtime) { return "mobileclip-bench-" + runtime; }

Json answer_of(const Outcome& outcome) {
    if (!outcome.error.empty()) return Json();
    auto value = Json::parse(outcome.output, nullptr, false);
    return value.is_discarded() ? Json() : value;
}

Start start_on(const PlanOptions& options, int threads) {
    const auto pinned = options.cores.find(threads);
    return {options.loader, pinned == options.cores.end() ? std::vector<int>{} : pinned->second};
}

// Waits until the phone is cool, at most as long as the protocol says: seconds, none where there was nothing to wait for.
std::optional<double> cool(const Protocol& protocol) {
    const auto is_warm = [] { return thermal_state().value_or("nominal") != "nominal"; };
    if (protocol.cool_seconds <= 0 || !is_warm()) return std::nullopt;
    const auto start = wall_ns();
    const auto waited = [start] { return static_cast<double>(wall_ns() - start) / 1e9; };
    while (waited() < protocol.cool_seconds && is_warm()) {
        std::fprintf(stderr, "waiting for the phone to cool, at most %.0f s more\n", protocol.cool_seconds - waited());
        std::this_thread::sleep_for(std::chrono::duration<double>(std::min(5.0, protocol.cool_seconds)));
    }
    return waited();
}

Json run_turn(const Job& job, const Turn& turn, const PlanOptions& options) {
    const auto cooled = cool(job.protocol);
    const auto& cell = job.cell(turn.cell);
    const auto name = program(cell.runtime);
    const auto outcome = run_process(options.runners / name, {options.folder.string(), turn.cell, std::to_string(turn.round)},
                                     options.turn_limit, start_on(options, cell.threads));
    if (!outcome.error.empty()) return failed_round(job, turn.cell, turn.round, outcome.error);
    auto found = answer_of(outcome);
    if (!found.is_object() || !is_round(found, job) || found["cell"] != turn.cell || found["round"] != turn.round) {
        return failed_round(job, turn.cell, turn.round, name + " wrote no round, or half of one");
    }
    if (const auto state = thermal_state()) found["thermal_state"] = *state;
    if (cooled) found["cooled_seconds"] = *cooled;
    return found;
}

// Version of each runtime that the job needs; the reason, if a runtime cannot report it.
Json runtime_versions(const Job& job, const PlanOptions& options) {
    Json versions = Json::object();
    for (const auto& cell : job.cells) {
        if (versions.contains(cell.runtime)) continue;
        const auto answer = answer_of(
            run_process(options.runners / program(cell.runtime), {"--version"}, kVersionLimit, {options.loader, {}}));
        versions[cell.runtime] = answer.is_object() ? answer.value("version", std::string("unknown")) : "unknown";
    }
    return versions;
}

std::vector<Turn> left_of(const Job& job, const std::vector<Json>& finished, const PlanOptions& options) {
    auto turns = outstanding(job, finished);
    const auto later = [&](const Turn& turn) { return options.first && turn.round != 0; };
    turns.erase(std::remove_if(turns.begin(), turns.end(), later), turns.end());
    return turns;
}

void report(std::size_t done, std::size_t all, const Json& round) {
    std::string text = round["status"].get<std::string>();
    text += text == "done" ? ", " + std::to_string(round["samples_ns"].size()) + " inferences"
                           : ": " + round.value("error", std::string("unknown"));
    std::fprintf(stderr, "%zu/%zu %s round %lld %s\n", done, all, round["cell"].get<std::string>().c_str(),
                 static_cast<long long>(round["round"].get<std::int64_t>()), text.c_str());
    std::fflush(stderr);
}

}  // namespace

void run_plan(const PlanOptions& options) {
    const auto job = read_job(options.folder);
    const auto stream = stream_file(options.folder, job);
    if (!options.resume && std::filesystem::exists(stream)) {
        throw JobError(stream.filename().string() + " is there already: go on with --resume, or remove it");
    }
    auto finished = read_stream(options.folder, job);
    const auto before = snapshot();
    const auto versions = runtime_versions(job, options);
    const auto record_file = options.folder / (job.run_id + ".run.json");
    const auto all = job.order.size();
    for (auto left = left_of(job, finished, options); !left.empty(); left = left_of(job, finished, options)) {
        finished.push_back(run_turn(job, left.front(), options));
        const auto line = compact(finished.back());
        append_line(stream, line);
        std::fprintf(stdout, "%s\n", line.c_str());  // for whoever watches; the file is what counts
        std::fflush(stdout);
        report(all - outstanding(job, finished).size(), all, finished.back());
    }
    const Json record{{"schema_version", 1},
                      {"run_id", job.run_id},
                      {"job", job.document},
                      {"device", describe_device(options.simulated)},
                      {"harness", describe_harness()},
                      {"runtimes", versions},
                      {"environment", {{"before", before}, {"after", snapshot()}}},
                      {"rounds", finished}};
    replace_file(record_file, compact(record) + "\n");
}

}  // namespace bench
