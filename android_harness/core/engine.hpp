// A runtime, as the core sees it: one model loaded at a time, input and output in buffers of its own.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "job.hpp"

namespace bench {

class Engine {
  public:
    Engine() = default;
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    virtual ~Engine() = default;

    // The job's word for it: onnxruntime, executorch, litert.
    virtual std::string runtime() const = 0;
    virtual std::string version() const = 0;

    // All of them throw std::runtime_error. A model that does not take and give what the cell says is refused.
    virtual void load(const std::filesystem::path& file, const Cell& cell) = 0;
    virtual void unload() = 0;
    virtual void feed(const std::vector<std::byte>& input) = 0;
    // What is timed: the runtime's call and nothing else.
    virtual void infer() = 0;
    virtual std::vector<std::byte> answer() const = 0;
};

}  // namespace bench
