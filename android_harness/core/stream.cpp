#include "stream.hpp"

#include <fstream>
#include <set>
#include <sstream>

namespace bench {
namespace {

// A nullable field may be null or absent; the driver's own lines, which come back to go on from, write the nulls.
void without_nulls(Json& object) {
    for (auto field = object.begin(); field != object.end();) {
        field = field->is_null() ? object.erase(field) : std::next(field);
    }
}

}  // namespace

std::filesystem::path stream_file(const std::filesystem::path& folder, const Job& job) {
    return folder / (job.run_id + ".rounds.jsonl");
}

bool is_round(const Json& line, const Job& job) {
    try {
        const Turn turn{line.at("cell").get<std::string>(), line.at("round").get<std::int64_t>()};
        const auto status = line.at("status").get<std::string>();
        if (line.at("run_id").get<std::string>() != job.run_id) return false;
        if (status != "done" && status != "failed" && status != "invalid") return false;
        if (status == "done" && line.at("samples_ns").get<std::vector<std::int64_t>>().empty()) return false;
        job.cell(turn.cell);
        return turn.round >= 0 && turn.round < job.protocol.rounds;
    } catch (const Json::exception&) {
        return false;
    } catch (const JobError&) {
        return false;
    }
}

std::vector<Json> read_stream(const std::filesystem::path& folder, const Job& job) {
    const auto path = stream_file(folder, job);
    if (!std::filesystem::exists(path)) return {};
    std::ifstream stream(path, std::ios::binary);
    std::ostringstream buffer;
    buffer << stream.rdbuf();
    const std::string text = buffer.str();
    const auto whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
    if (whole < text.size()) std::filesystem::resize_file(path, whole);

    std::vector<Json> finished;
    std::set<Turn> turns;
    std::istringstream lines(text.substr(0, whole));
    for (std::string line; std::getline(lines, line);) {
        auto value = Json::parse(line, nullptr, false);
        if (value.is_discarded() || !is_round(value, job) ||
            !turns.insert({value["cell"].get<std::string>(), value["round"].get<std::int64_t>()}).second) {
            throw JobError(path.filename().string() + ", line " + std::to_string(finished.size() + 1) +
                           " is no round of this job: remove the file and run again");
        }
        without_nulls(value);
        finished.push_back(std::move(value));
    }
    return finished;
}

std::vector<Turn> outstanding(const Job& job, const std::vector<Json>& finished) {
    std::set<Turn> done;
    std::set<std::string> stopped;
    for (const auto& line : finished) {
        done.insert({line["cell"].get<std::string>(), line["round"].get<std::int64_t>()});
        if (line["status"] != "done") stopped.insert(line["cell"].get<std::string>());
    }
    std::vector<Turn> turns;
    for (const auto& turn : job.order) {
        if (done.count(turn) == 0 && stopped.count(turn.cell) == 0) turns.push_back(turn);
    }
    return turns;
}

}  // namespace bench
