#include "job.hpp"

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

namespace bench {
namespace {

void must(bool holds, const std::string& what) {
    if (!holds) throw JobError("job.json: " + what);
}

// A nullable field may be left out, and so may those that have a default.
void fill_in(Json& object, const Json& defaults) {
    for (const auto& item : defaults.items()) {
        if (!object.contains(item.key())) object[item.key()] = item.value();
    }
}

Json with_defaults(Json document) {
    fill_in(document.at("protocol"), {{"golden_inputs", 0}, {"cool_seconds", 0.0}, {"pace_milliseconds", 0.0}});
    for (auto& cell : document.at("cells")) {
        for (const char* name : {"bundle", "variant", "target", "precision", "accuracy", "backend", "compute_units", "golden",
                                 "gate", "resizing"}) {
            fill_in(cell, {{name, nullptr}});
        }
        fill_in(cell, {{"options", Json::object()}});
        if (!cell.at("golden").is_null()) fill_in(cell.at("golden"), {{"outputs", nullptr}});
    }
    return document;
}

// What the structs have no place for is not in what they write.
void refuse_unknown(const Json& read, const Json& written, const std::string& place) {
    for (const auto& item : read.items()) {
        if (read.is_object() && !written.contains(item.key())) {
            throw JobError("job.json: unknown field " + place + "." + item.key() +
                           "; build the harness from the same version as mobileclip-deploy");
        }
        const auto& value = read.is_object() ? written.at(item.key()) : written.at(std::stoul(item.key()));
        if (item.value().is_structured()) refuse_unknown(item.value(), value, place + "." + item.key());
    }
}

void check_identifier(const std::string& value, const std::string& where) {
    static const std::regex pattern("[A-Za-z0-9][A-Za-z0-9._+-]{0,119}");
    must(std::regex_match(value, pattern), where + " is no identifier");
}

void check_path(const std::string& value, const std::string& where) {
    static const std::regex pattern("[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*");
    must(std::regex_match(value, pattern), where + " is no path below the job's folder");
}

template <typename T>
void check_tensor(const T& tensor, const std::string& where) {
    for (const auto size : tensor.shape) must(size >= 1 && size < (1LL << 32), where + " has a free or empty dimension");
    dtype_bytes(tensor.dtype);
}

void check(const Protocol& protocol) {
    must(protocol.warm_up_iterations >= 0 && protocol.rounds >= 1 && protocol.iterations_per_round >= 1 &&
             protocol.seconds_per_round >= 0 && protocol.golden_inputs >= 0 && protocol.cool_seconds >= 0 &&
             protocol.pace_milliseconds >= 0,
         "protocol holds a number out of range");
}

void check(const Cell& cell) {
    check_identifier(cell.id, "cell.id");
    check_path(cell.file, cell.id + ".file");
    check_identifier(cell.runtime, cell.id + ".runtime");
    must(cell.threads >= 1 && cell.threads <= 1024, cell.id + ".threads is out of range");
    check_tensor(cell.input, cell.id + ".input");
    check_tensor(cell.output, cell.id + ".output");
    must(cell.golden.has_value() != cell.gate.is_null(), cell.id + ": golden and gate come together");
    if (!cell.golden) return;
    check_path(cell.golden->inputs.file, cell.id + ".golden");
    check_tensor(cell.golden->inputs, cell.id + ".golden");
    must(!cell.golden->inputs.shape.empty(), cell.id + ".golden has no dimension");
}

void check_order(const Job& job) {
    std::set<Turn> wanted, turns(job.order.begin(), job.order.end());
    for (const auto& cell : job.cells) {
        for (std::int64_t round = 0; round < job.protocol.rounds; ++round) wanted.insert({cell.id, round});
    }
    must(wanted.size() == job.cells.size() * static_cast<std::size_t>(job.protocol.rounds), "two cells have the same id");
    const auto same = [](const Turn& a, const Turn& b) { return !(a < b) && !(b < a); };
    must(turns.size() == job.order.size() && turns.size() == wanted.size() &&
             std::equal(turns.begin(), turns.end(), wanted.begin(), same),
         "order must hold every round of every cell once");
}

}  // namespace

std::size_t Tensor::elements() const {
    std::size_t count = 1;
    for (const auto size : shape) count *= static_cast<std::size_t>(size);
    return count;
}

std::size_t Tensor::bytes() const { return elements() * dtype_bytes(dtype); }

const Cell& Job::cell(const std::string& id) const {
    for (const auto& cell : cells) {
        if (cell.id == id) return cell;
    }
    throw JobError("job.json has no cell " + id);
}

std::size_t dtype_bytes(const std::string& dtype) {
    static const std::map<std::string, std::size_t> sizes{
        {"float32", 4}, {"float16", 2}, {"uint8", 1}, {"int32", 4}, {"int64", 8}};
    const auto found = sizes.find(dtype);
    if (found == sizes.end()) throw JobError("job.json: unknown dtype " + dtype);
    return found->second;
}

Job parse_job(const std::string& text) {
    const auto document = Json::parse(text, nullptr, false);
    if (document.is_discarded()) throw JobError("job.json is no JSON, or was cut off: push the job again");
    Job job;
    try {
        const auto version = document.at("schema_version").get<int>();
        must(version == 1, "schema version " + std::to_string(version) + ", this harness reads 1; build the matching harness");
        const auto whole = with_defaults(document);
        whole.get_to(job);
        refuse_unknown(whole, job, "job");
    } catch (const Json::exception& error) {
        const std::string said = error.what();  // [json.exception...] (/cells/0/threads) type must be number, but is string
        throw JobError("job.json: " + said.substr(said.find("] ") + 2));
    }
    job.document = document;
    check_identifier(job.run_id, "run_id");
    check(job.protocol);
    for (const auto& cell : job.cells) check(cell);
    check_order(job);
    return job;
}

Job read_job(const std::filesystem::path& folder) {
    std::ifstream stream(folder / "job.json", std::ios::binary);
    if (!stream) throw JobError("no job.json in " + folder.string() + ": name the job's folder");
    std::ostringstream text;
    text << stream.rdbuf();
    return parse_job(text.str());
}

}  // namespace bench
