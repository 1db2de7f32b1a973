// The job: everything that this device has to measure. docs/measuring.md says what each field means.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

// nlohmann's own comes with a later version.
template <typename T>
struct nlohmann::adl_serializer<std::optional<T>> {
    static void to_json(json& value, const std::optional<T>& found) { value = found ? json(*found) : json(); }
    static void from_json(const json& value, std::optional<T>& found) {
        if (!value.is_null()) found = value.get<T>();
    }
};

namespace bench {

using Json = nlohmann::json;

// What makes a job, or a file that it names, unusable; the text is one line that says what to do.
struct JobError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A field that may be null is a std::optional. What this device does not look at is kept as it came, as Json.

struct Protocol {
    Json name;
    std::int64_t warm_up_iterations;
    std::int64_t rounds;
    std::int64_t iterations_per_round;
    double seconds_per_round;
    Json reload_each_round, trim_fraction, statistic;
    std::int64_t golden_inputs;  // 0: all
    double cool_seconds;         // to wait before a round for a cool phone, at most
    double pace_milliseconds;    // from an inference's start to the next one's; 0: one right after the other
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Protocol, name, warm_up_iterations, rounds, iterations_per_round, seconds_per_round,
                                   reload_each_round, trim_fraction, statistic, golden_inputs, cool_seconds,
                                   pace_milliseconds)

struct Tensor {
    std::string name;
    std::string dtype;
    std::vector<std::int64_t> shape;

    std::size_t elements() const;
    std::size_t bytes() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Tensor, name, dtype, shape)

// A raw little-endian row-major file; the first dimension counts the examples.
struct RawTensor {
    std::string file;
    Json sha256;
    std::string dtype;
    std::vector<std::int64_t> shape;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RawTensor, file, sha256, dtype, shape)

struct Golden {
    RawTensor inputs;
    Json outputs;  // of jobs of earlier versions
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Golden, inputs, outputs)

struct Cell {
    std::string id;
    Json label;
    bool competitor;
    Json bundle, variant, tower, target, precision, accuracy;
    std::string file;
    Json sha256;
    std::uint64_t bytes;
    std::string runtime;
    std::optional<std::string> backend;  // none: the runtime's default
    Json compute_units;
    int threads;
    std::map<std::string, std::string> options;
    Tensor input;
    Tensor output;
    std::optional<Golden> golden;
    Json gate, resizing;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Cell, id, label, competitor, bundle, variant, tower, target, precision, accuracy, file,
                                   sha256, bytes, runtime, backend, compute_units, threads, options, input, output,
                                   golden, gate, resizing)

struct Turn {
    std::string cell;
    std::int64_t round;

    bool operator<(const Turn& other) const {
        return cell != other.cell ? cell < other.cell : round < other.round;
    }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Turn, cell, round)

struct Job {
    Json document;  // as it was read: it goes back unchanged
    int schema_version;
    std::string run_id;
    Json seed;
    Protocol protocol;
    std::vector<Cell> cells;
    std::vector<Turn> order;

    const Cell& cell(const std::string& id) const;  // throws JobError
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Job, schema_version, run_id, seed, protocol, cells, order)

// Bytes of one element; throws JobError for a dtype that does not exist.
std::size_t dtype_bytes(const std::string& dtype);

// Reads `<folder>/job.json`; throws JobError, naming the field.
Job read_job(const std::filesystem::path& folder);
Job parse_job(const std::string& text);

}  // namespace bench
