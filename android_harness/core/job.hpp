// The job: everything this device is told to measure. docs/benchmark.md says what each field means.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace bench {

using Json = nlohmann::json;

// What makes a job, or a file that it names, unusable; the text is one line that says what to do.
struct JobError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Protocol {
    std::int64_t warm_up_iterations;
    std::int64_t rounds;
    std::int64_t iterations_per_round;
    double seconds_per_round;
    std::int64_t golden_inputs;  // 0: all
};

struct Tensor {
    std::string name;
    std::string dtype;
    std::vector<std::int64_t> shape;

    std::size_t elements() const;
    std::size_t bytes() const;
};

// A raw little-endian row-major file; the first dimension counts the examples.
struct TensorFile {
    std::string file;
    std::string dtype;
    std::vector<std::int64_t> shape;
};

struct Golden {
    TensorFile inputs;
    TensorFile outputs;
};

struct Gate {
    std::string metric;  // cosine | relative
    double bound;
};

struct Cell {
    std::string id;
    bool competitor;
    std::string file;
    std::uint64_t bytes;
    std::string runtime;
    std::string backend;  // empty: the runtime's default
    int threads;
    std::map<std::string, std::string> options;
    Tensor input;
    Tensor output;
    std::optional<Golden> golden;
    std::optional<Gate> gate;
};

struct Turn {
    std::string cell;
    std::int64_t round;

    bool operator<(const Turn& other) const {
        return cell != other.cell ? cell < other.cell : round < other.round;
    }
};

struct Job {
    Json document;  // as it was read: it goes into the result unchanged
    std::string run_id;
    Protocol protocol;
    std::vector<Cell> cells;
    std::vector<Turn> order;

    const Cell& cell(const std::string& id) const;  // throws JobError
};

// Bytes of one element; throws JobError for a dtype that does not exist.
std::size_t dtype_bytes(const std::string& dtype);

// Reads `<folder>/job.json`; throws JobError, naming the field.
Job read_job(const std::filesystem::path& folder);
Job parse_job(const std::string& text);

}  // namespace bench
