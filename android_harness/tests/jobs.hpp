// A small job on disk, for tests to change: two cells, two rounds, golden inputs.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include "job.hpp"

namespace tests {

class Folder {
  public:
    Folder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "mobileclip bench XXXXXX").string();
        path = mkdtemp(pattern.data());
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() { std::filesystem::remove_all(path); }

    std::filesystem::path path;
};

inline void write(const std::filesystem::path& file, const std::string& text) {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
}

inline std::string read(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

inline std::string raw(const std::vector<float>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

inline bench::Json cell(const std::string& id, const std::string& runtime) {
    return {{"id", id},
            {"label", id},
            {"competitor", false},
            {"tower", "image"},
            {"file", "models/" + id + ".bin"},
            {"sha256", std::string(64, '0')},
            {"bytes", 5},
            {"runtime", runtime},
            {"threads", 1},
            {"options", bench::Json::object()},
            {"input", {{"name", "x"}, {"dtype", "float32"}, {"shape", {1, 3}}}},
            {"output", {{"name", "y"}, {"dtype", "float32"}, {"shape", {1, 3}}}},
            {"golden",
             {{"inputs", {{"file", "golden/in.bin"}, {"sha256", ""}, {"dtype", "float32"}, {"shape", {2, 3}}}}}},
            {"gate", {{"metric", "relative"}, {"bound", 1e-4}}}};
}

inline bench::Json job() {
    return {{"schema_version", 1},
            {"run_id", "run-1"},
            {"seed", 7},
            {"protocol",
             {{"name", "standard-quick"},
              {"warm_up_iterations", 1},
              {"rounds", 2},
              {"iterations_per_round", 3},
              {"seconds_per_round", 0.0},
              {"reload_each_round", false},
              {"trim_fraction", 0.1},
              {"statistic", "median"},
              {"golden_inputs", 0}}},
            {"cells", {cell("a", "onnxruntime"), cell("b", "executorch")}},
            {"order",
             {{{"cell", "b"}, {"round", 0}},
              {{"cell", "a"}, {"round", 0}},
              {{"cell", "a"}, {"round", 1}},
              {{"cell", "b"}, {"round", 1}}}}};
}

inline bench::Job job_in(const std::filesystem::path& folder, const bench::Json& document = job()) {
    write(folder / "job.json", document.dump());
    write(folder / "models/a.bin", "model");
    write(folder / "models/b.bin", "model");
    write(folder / "golden/in.bin", raw({1, 2, 3, 4, 5, 6}));
    return bench::read_job(folder);
}

}  // namespace tests
