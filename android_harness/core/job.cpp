#include "job.hpp"

#include <fstream>
#include <initializer_list>
#include <regex>
#include <set>
#include <sstream>

namespace bench {
namespace {

// One JSON object, read field by field; a field that nobody asked for is an error.
class Fields {
  public:
    Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
        if (!object.is_object()) throw JobError("job.json: " + where_ + " is no object");
    }

    template <typename T>
    T get(const char* name) {
        const Json* found = look(name);
        if (found == nullptr) throw JobError("job.json: " + where_ + "." + name + " is missing");
        return convert<T>(*found, name);
    }

    template <typename T>
    T get_or(const char* name, T fallback) {
        const Json* found = look(name);
        return found == nullptr ? fallback : convert<T>(*found, name);
    }

    const Json* object(const char* name) { return look(name); }

    void ignore(std::initializer_list<const char*> names) {
        for (const char* name : names) seen_.insert(name);
    }

    void finish() const {
        for (const auto& item : object_.items()) {
            if (seen_.count(item.key()) == 0) {
                throw JobError("job.json: unknown field " + where_ + "." + item.key() +
                               "; build the harness from the same version as mobileclip-deploy");
            }
        }
    }

    std::string path(const char* name) const { return where_ + "." + name; }

  private:
    const Json* look(const char* name) {
        seen_.insert(name);
        const auto found = object_.find(name);
        return found == object_.end() || found->is_null() ? nullptr : &*found;
    }

    template <typename T>
    T convert(const Json& value, const char* name) const {
        try {
            return value.get<T>();
        } catch (const Json::exception&) {
            throw JobError("job.json: " + where_ + "." + name + " has the wrong type");
        }
    }

    const Json& object_;
    std::string where_;
    std::set<std::string> seen_;
};

void must(bool holds, const std::string& what) {
    if (!holds) throw JobError("job.json: " + what);
}

std::string identifier(std::string value, const std::string& where) {
    static const std::regex pattern("[A-Za-z0-9][A-Za-z0-9._+-]{0,119}");
    must(std::regex_match(value, pattern), where + " is no identifier");
    return value;
}

std::string relative_path(std::string value, const std::string& where) {
    static const std::regex pattern("[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*");
    must(std::regex_match(value, pattern), where + " is no path below the job's folder");
    return value;
}

std::vector<std::int64_t> shape(std::vector<std::int64_t> value, const std::string& where) {
    for (const auto size : value) must(size >= 1 && size < (1LL << 32), where + " has a free or empty dimension");
    return value;
}

Protocol read_protocol(const Json& value) {
    Fields fields(value, "protocol");
    fields.ignore({"name", "reload_each_round", "trim_fraction", "statistic"});
    Protocol protocol{fields.get<std::int64_t>("warm_up_iterations"), fields.get<std::int64_t>("rounds"),
                      fields.get<std::int64_t>("iterations_per_round"), fields.get<double>("seconds_per_round"),
                      fields.get_or<std::int64_t>("golden_inputs", 0)};
    fields.finish();
    must(protocol.warm_up_iterations >= 0 && protocol.rounds >= 1 && protocol.iterations_per_round >= 1 &&
             protocol.seconds_per_round >= 0 && protocol.golden_inputs >= 0,
         "protocol holds a number out of range");
    return protocol;
}

Tensor read_tensor(const Json* value, const std::string& where) {
    must(value != nullptr, where + " is missing");
    Fields fields(*value, where);
    Tensor tensor{fields.get<std::string>("name"), fields.get<std::string>("dtype"),
                  shape(fields.get<std::vector<std::int64_t>>("shape"), where)};
    fields.finish();
    dtype_bytes(tensor.dtype);
    return tensor;
}

TensorFile read_tensor_file(const Json* value, const std::string& where) {
    must(value != nullptr, where + " is missing");
    Fields fields(*value, where);
    fields.ignore({"sha256"});
    TensorFile file{relative_path(fields.get<std::string>("file"), where), fields.get<std::string>("dtype"),
                    shape(fields.get<std::vector<std::int64_t>>("shape"), where)};
    fields.finish();
    must(!file.shape.empty(), where + " has no dimension");
    dtype_bytes(file.dtype);
    return file;
}

Cell read_cell(const Json& value) {
    Fields fields(value, "cell");
    fields.ignore({"label", "bundle", "variant", "tower", "target", "precision", "accuracy", "sha256", "compute_units"});
    Cell cell;
    cell.id = identifier(fields.get<std::string>("id"), "cell.id");
    cell.competitor = fields.get<bool>("competitor");
    cell.file = relative_path(fields.get<std::string>("file"), cell.id + ".file");
    cell.bytes = fields.get<std::uint64_t>("bytes");
    cell.runtime = fields.get<std::string>("runtime");
    cell.backend = fields.get_or<std::string>("backend", "");
    cell.threads = fields.get<int>("threads");
    cell.options = fields.get_or<std::map<std::string, std::string>>("options", {});
    cell.input = read_tensor(fields.object("input"), cell.id + ".input");
    cell.output = read_tensor(fields.object("output"), cell.id + ".output");
    must(cell.threads >= 1 && cell.threads <= 1024, cell.id + ".threads is out of range");
    if (const Json* golden = fields.object("golden")) {
        Fields pair(*golden, cell.id + ".golden");
        cell.golden = Golden{read_tensor_file(pair.object("inputs"), pair.path("inputs")),
                             read_tensor_file(pair.object("outputs"), pair.path("outputs"))};
        pair.finish();
    }
    if (const Json* gate = fields.object("gate")) {
        Fields both(*gate, cell.id + ".gate");
        cell.gate = Gate{both.get<std::string>("metric"), both.get<double>("bound")};
        both.finish();
        must(cell.gate->metric == "cosine" || cell.gate->metric == "relative", cell.id + ".gate.metric is unknown");
    }
    must(cell.golden.has_value() == cell.gate.has_value(), cell.id + ": golden and gate come together");
    fields.finish();
    return cell;
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
    Job job;
    job.document = Json::parse(text, nullptr, false);
    if (job.document.is_discarded()) throw JobError("job.json is no JSON, or was cut off: push the job again");
    Fields fields(job.document, "job");
    const auto version = fields.get<int>("schema_version");
    must(version == 1, "schema version " + std::to_string(version) + ", this harness reads 1; build the matching harness");
    fields.ignore({"seed"});
    job.run_id = identifier(fields.get<std::string>("run_id"), "run_id");
    const Json* protocol = fields.object("protocol");
    must(protocol != nullptr, "protocol is missing");
    job.protocol = read_protocol(*protocol);
    for (const auto& value : fields.get<std::vector<Json>>("cells")) job.cells.push_back(read_cell(value));
    for (const auto& value : fields.get<std::vector<Json>>("order")) {
        Fields turn(value, "order");
        job.order.push_back({turn.get<std::string>("cell"), turn.get<std::int64_t>("round")});
        turn.finish();
    }
    fields.finish();

    std::set<Turn> wanted, turns(job.order.begin(), job.order.end());
    for (const auto& cell : job.cells) {
        for (std::int64_t round = 0; round < job.protocol.rounds; ++round) wanted.insert({cell.id, round});
    }
    must(wanted.size() == job.cells.size() * static_cast<std::size_t>(job.protocol.rounds), "two cells have the same id");
    const auto same = [](const Turn& a, const Turn& b) { return !(a < b) && !(b < a); };
    must(turns.size() == job.order.size() && turns.size() == wanted.size() &&
             std::equal(turns.begin(), turns.end(), wanted.begin(), same),
         "order must hold every round of every cell once");
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
