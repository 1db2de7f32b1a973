// mobileclip-bench-executorch: ExecuTorch's runtime with XNNPACK and the optimized kernels.
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/runtime.h>
#if __has_include(<executorch/extension/threadpool/threadpool.h>)
#include <executorch/extension/threadpool/threadpool.h>
#else
// ExecuTorch's wheel (1.5.1) has the pool in a library and leaves out its header: the two functions that we call.
namespace executorch::extension::threadpool {
class ThreadPool {
  public:
    std::size_t get_thread_count() const;
    bool _unsafe_reset_threadpool(std::uint32_t count);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool
#endif

#include "runner.hpp"

#ifndef MOBILECLIP_EXECUTORCH_VERSION
#error "the build defines MOBILECLIP_EXECUTORCH_VERSION"
#endif

namespace {

namespace et = ::executorch::runtime;
using ::executorch::aten::ScalarType;
using ::executorch::extension::Module;
using ::executorch::extension::TensorPtr;

ScalarType scalar_type(const std::string& dtype) {
    if (dtype == "float32") return ScalarType::Float;
    if (dtype == "float16") return ScalarType::Half;
    if (dtype == "uint8") return ScalarType::Byte;
    return dtype == "int32" ? ScalarType::Int : ScalarType::Long;
}

void check(et::Error error, const char* what) {
    if (error == et::Error::Ok) return;
    throw std::runtime_error(std::string("ExecuTorch cannot ") + what + ": " + et::to_string(error));
}

void set_threads(int wanted) {
    auto* pool = ::executorch::extension::threadpool::get_threadpool();
    if (pool == nullptr) throw std::runtime_error("ExecuTorch has no thread pool");
    if (pool->get_thread_count() == static_cast<std::size_t>(wanted)) return;
    if (!pool->_unsafe_reset_threadpool(static_cast<std::uint32_t>(wanted)) ||
        pool->get_thread_count() != static_cast<std::size_t>(wanted)) {
        throw std::runtime_error("ExecuTorch's thread pool does not take " + std::to_string(wanted) + " threads");
    }
}

class ExecuTorch final : public bench::Engine {
  public:
    ExecuTorch() { et::runtime_init(); }

    std::string runtime() const override { return "executorch"; }

    std::string version() const override { return MOBILECLIP_EXECUTORCH_VERSION; }

    void load(const std::filesystem::path& file, const bench::Cell& cell) override {
        if (!cell.options.empty()) throw std::runtime_error("ExecuTorch takes no options; this cell has some");
        set_threads(cell.threads);
        module_ = std::make_unique<Module>(file.string(), Module::LoadMode::Mmap);
        check(module_->load_forward(), "load the model");
        input_bytes_.assign(cell.input.bytes(), std::byte{0});
        std::vector<::executorch::aten::SizesType> sizes(cell.input.shape.begin(), cell.input.shape.end());
        input_ = ::executorch::extension::make_tensor_ptr(std::move(sizes), input_bytes_.data(), scalar_type(cell.input.dtype));
        output_ = cell.output;
    }

    void unload() override {
        module_.reset();
        input_.reset();
    }

    void feed(const std::vector<std::byte>& input) override {
        if (input.size() != input_bytes_.size()) throw std::runtime_error("the input does not fit the model's");
        std::copy(input.begin(), input.end(), input_bytes_.begin());
    }

    void infer() override {
        const auto outputs = module_->forward(input_);
        check(outputs.error(), "run the model");
    }

    std::vector<std::byte> answer() const override {
        const auto found = module_->get_output();
        check(found.error(), "give the output");
        const auto& tensor = found->toTensor();
        if (tensor.scalar_type() != scalar_type(output_.dtype) || tensor.nbytes() != output_.bytes()) {
            throw std::runtime_error("the model's output is not " + output_.dtype + " of the shape that the job says");
        }
        std::vector<std::byte> bytes(tensor.nbytes());
        std::memcpy(bytes.data(), tensor.const_data_ptr(), bytes.size());
        return bytes;
    }

  private:
    std::unique_ptr<Module> module_;
    std::vector<std::byte> input_bytes_;
    TensorPtr input_;
    bench::Tensor output_;
};

}  // namespace

int main(int argc, char** argv) {
    ExecuTorch engine;
    return bench::run_runner(argc, argv, engine);
}
