#include "result.hpp"

#include <algorithm>

#include "machine.hpp"

#ifndef MOBILECLIP_HARNESS_VERSION
#error "the build defines MOBILECLIP_HARNESS_VERSION"
#endif

namespace bench {
namespace {

std::vector<Json> rounds_of(const std::string& cell, const std::vector<Json>& finished) {
    std::vector<Json> rounds;
    std::copy_if(finished.begin(), finished.end(), std::back_inserter(rounds),
                 [&](const Json& line) { return line["cell"] == cell; });
    std::sort(rounds.begin(), rounds.end(), [](const Json& a, const Json& b) { return a["round"] < b["round"]; });
    return rounds;
}

void judge(Json& result, const std::vector<Json>& rounds, std::int64_t wanted) {
    for (const char* status : {"invalid", "failed"}) {
        for (const auto& round : rounds) {
            if (round["status"] != status) continue;
            result["status"] = status;
            result["error"] = round["error"];
            return;
        }
    }
    const bool whole = static_cast<std::int64_t>(rounds.size()) == wanted;
    result["status"] = whole ? "done" : "skipped";
    if (!whole) result["error"] = std::to_string(rounds.size()) + " of " + std::to_string(wanted) + " rounds were run";
}

}  // namespace

Json describe_harness() {
    return {{"name", "mobileclip-bench"},
            {"version", MOBILECLIP_HARNESS_VERSION},
            {"build", MOBILECLIP_HARNESS_BUILD},
            {"affinity", affinity()}};
}

Json cell_results(const Job& job, const std::vector<Json>& finished) {
    Json cells = Json::array();
    for (const auto& cell : job.cells) {
        const auto rounds = rounds_of(cell.id, finished);
        Json result{{"id", cell.id}, {"rounds", rounds}};
        judge(result, rounds, job.protocol.rounds);
        std::int64_t peak = 0;
        for (const auto& round : rounds) {
            if (round["round"] == 0) {
                for (const char* name : {"load_first_ns", "load_again_ns", "first_inference_ns", "golden", "warnings"}) {
                    if (round.contains(name)) result[name] = round[name];
                }
            }
            peak = std::max(peak, round.value("peak_memory_bytes", std::int64_t{0}));
        }
        if (peak > 0) result["peak_memory_bytes"] = peak;
        cells.push_back(std::move(result));
    }
    return cells;
}

Json assemble(const Job& job, const std::vector<Json>& finished, const Json& device, const Json& runtimes,
              const Json& before, const Json& after) {
    return {{"schema_version", 1},
            {"run_id", job.run_id},
            {"job", job.document},
            {"device", device},
            {"harness", describe_harness()},
            {"runtimes", runtimes},
            {"environment", {{"before", before}, {"after", after}}},
            {"cells", cell_results(job, finished)}};
}

}  // namespace bench
