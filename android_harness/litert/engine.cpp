// mobileclip-bench-litert: libLiteRt.so is opened at run time, and so is the GPU's library next to it.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "litert.hpp"
#include "runner.hpp"

namespace {

using bench::litert::Api;
using bench::litert::Handle;
using bench::litert::TensorType;

constexpr const char* kLibrary = "libLiteRt.so";

// Facts that the library itself does not report: the metadata of its package, a file next to it.
std::string packaged_version(const std::filesystem::path& library) {
    const auto file = std::filesystem::path(library.string() + ".metadata");
    std::ifstream stream(file);
    for (std::string line; std::getline(stream, line) && !line.empty();) {
        if (line.rfind("Version: ", 0) != 0) continue;
        line.erase(0, sizeof("Version: ") - 1);
        if (!line.empty() && line.back() == '\r') line.pop_back();
        return line;
    }
    throw std::runtime_error(file.string() +
                             " does not say which version of LiteRT this is: put its package's METADATA there");
}

std::int32_t element_type(const std::string& dtype) {
    if (dtype == "float32") return 1;
    if (dtype == "int32") return 2;
    if (dtype == "uint8") return 3;
    return dtype == "int64" ? 4 : 10;  // float16
}

class LiteRt final : public bench::Engine {
  public:
    ~LiteRt() override {
        unload();
        if (environment_ != nullptr) api_->DestroyEnvironment(environment_);
    }

    std::string runtime() const override { return "litert"; }

    std::string version() const override { return packaged_version(api().library); }

    void load(const std::filesystem::path& file, const bench::Cell& cell) override {
        if (!cell.options.empty()) throw std::runtime_error("LiteRT takes no options; this cell has some");
        const auto place = cell.backend.value_or("cpu");
        if (place != "cpu" && place != "gpu") {
            throw std::runtime_error("LiteRT place " + place + " is unknown here; known: cpu, gpu");
        }
        on_gpu_ = place == "gpu";
        open_environment();
        check(api_->CreateModelFromFile(environment_, file.c_str(), &model_), "read the model");
        compile(cell.threads);
        bind(cell);
    }

    void unload() override {
        if (api_ == nullptr) return;
        if (output_ != nullptr) api_->DestroyTensorBuffer(output_);
        if (input_ != nullptr) api_->DestroyTensorBuffer(input_);
        if (compiled_ != nullptr) api_->DestroyCompiledModel(compiled_);
        if (model_ != nullptr) api_->DestroyModel(model_);
        output_ = input_ = compiled_ = model_ = nullptr;
    }

    void feed(const std::vector<std::byte>& input) override {
        if (input.size() != input_bytes_) throw std::runtime_error("the input does not fit the model's");
        void* place = nullptr;
        check(api_->LockTensorBuffer(input_, &place, bench::litert::kWrite), "take the input");
        std::memcpy(place, input.data(), input.size());
        check(api_->UnlockTensorBuffer(input_), "take the input");
    }

    void infer() override {
        check(api_->RunCompiledModel(compiled_, 0, 1, &input_, 1, &output_), "run the model");
        // A GPU's answer is there when it can be read, not when the call comes back.
        if (on_gpu_) read_output([](const void*) {});
    }

    std::vector<std::byte> answer() const override {
        std::vector<std::byte> bytes(output_bytes_);
        read_output([&](const void* place) { std::memcpy(bytes.data(), place, bytes.size()); });
        return bytes;
    }

  private:
    const Api& api() const {
        if (api_ == nullptr) {
            const char* named = std::getenv("MOBILECLIP_LITERT");
            api_ = std::make_unique<Api>(bench::litert::open(named != nullptr ? named : kLibrary));
        }
        return *api_;
    }

    void check(std::int32_t status, const char* what) const {
        if (status == 0) return;
        throw std::runtime_error(std::string("LiteRT cannot ") + what + ": " + bench::litert::status_text(status));
    }

    template <typename Use>
    void read_output(Use use) const {
        void* place = nullptr;
        check(api_->LockTensorBuffer(output_, &place, bench::litert::kRead), "give the output");
        use(place);
        check(api_->UnlockTensorBuffer(output_), "give the output");
    }

    // Of one kind of place: the GPU's library takes memory and threads, which a CPU's cell must not pay for.
    void open_environment() {
        if (environment_ != nullptr) return;
        folder_ = api().library.parent_path().string();
        const std::vector<bench::litert::EnvironmentOption> options{
            bench::litert::text_option(bench::litert::kRuntimeLibraryFolder, folder_.c_str()),
            bench::litert::number_option(bench::litert::kRegisteredAccelerators, accelerator()),
            bench::litert::number_option(bench::litert::kLeastLogSeverity, bench::litert::kLogErrors),
        };
        check(api_->CreateEnvironment(static_cast<int>(options.size()), options.data(), &environment_), "start");
        std::size_t found = 0;
        check(api_->GetNumAccelerators(environment_, &found), "start");
        if (found == 0) {
            throw std::runtime_error("LiteRT has no library for the GPU that loads here (libLiteRt...Accelerator.so); "
                                     "PyPI's wheels have none for phones, Android's AAR has");
        }
    }

    std::int32_t accelerator() const { return on_gpu_ ? bench::litert::kGpu : bench::litert::kCpu; }

    void compile(int threads) {
        Handle raw = nullptr;
        check(api_->CreateOptions(&raw), "start");
        const std::unique_ptr<void, void (*)(Handle)> options(raw, api_->DestroyOptions);
        // This place and no other: what the GPU does not take is refused, and not run on the CPU under its name.
        check(api_->SetOptionsHardwareAccelerators(raw, accelerator()), "start");
        if (!on_gpu_) {
            const auto text = "num_threads = " + std::to_string(threads) + "\n";
            char* payload = static_cast<char*>(std::malloc(text.size() + 1));
            std::memcpy(payload, text.c_str(), text.size() + 1);
            Handle opaque = nullptr;
            check(api_->CreateOpaqueOptions("xnnpack", payload, std::free, &opaque), "start");
            check(api_->AddOpaqueOptions(raw, opaque), "start");  // which owns it from here on
        }
        const auto status = api_->CreateCompiledModel(environment_, model_, raw, &compiled_);
        if (status == 0) return;
        const auto why = bench::litert::status_text(status);
        if (!on_gpu_) throw std::runtime_error("LiteRT cannot compile the model: " + why);
        throw std::runtime_error("LiteRT cannot compile all of the model for the GPU: " + why +
                                 "; mobileclip-deploy verify --place gpu names what it lacks");
    }

    void bind(const bench::Cell& cell) {
        Handle signature = nullptr;
        check(api_->GetModelSignature(model_, 0, &signature), "find the model's signature");
        std::size_t inputs = 0, outputs = 0;
        check(api_->GetNumSignatureInputs(signature, &inputs), "read the model's inputs");
        check(api_->GetNumSignatureOutputs(signature, &outputs), "read the model's outputs");
        if (inputs != 1 || outputs != 1) throw std::runtime_error("the model has not one input and one output");
        Handle input = nullptr, output = nullptr, wanted = nullptr, given = nullptr;
        check(api_->GetSignatureInputTensorByIndex(signature, 0, &input), "read the model's input");
        check(api_->GetSignatureOutputTensorByIndex(signature, 0, &output), "read the model's output");
        check(api_->GetCompiledModelInputBufferRequirements(compiled_, 0, 0, &wanted), "read the model's input");
        check(api_->GetCompiledModelOutputBufferRequirements(compiled_, 0, 0, &given), "read the model's output");
        input_ = make_buffer(input, wanted, cell.input, "input");
        output_ = make_buffer(output, given, cell.output, "output");
        input_bytes_ = cell.input.bytes();
        output_bytes_ = cell.output.bytes();
    }

    Handle make_buffer(Handle tensor, Handle requirements, const bench::Tensor& stated, const std::string& which) const {
        TensorType type{};
        check(api_->GetRankedTensorType(tensor, &type), "read the shape of a tensor");
        bool same = type.element == element_type(stated.dtype) && type.rank == stated.shape.size();
        for (std::size_t i = 0; same && i < stated.shape.size(); ++i) same = type.dimensions[i] == stated.shape[i];
        if (!same) {
            throw std::runtime_error("the model's " + which + " is not " + stated.dtype + " of the shape that the job says");
        }
        Handle buffer = nullptr;
        check(api_->CreateManagedTensorBufferFromRequirements(environment_, &type, requirements, &buffer), "get memory");
        return buffer;
    }

    mutable std::unique_ptr<Api> api_;
    std::string folder_;
    bool on_gpu_ = false;
    Handle environment_ = nullptr;
    Handle model_ = nullptr;
    Handle compiled_ = nullptr;
    Handle input_ = nullptr;
    Handle output_ = nullptr;
    std::size_t input_bytes_ = 0;
    std::size_t output_bytes_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    LiteRt engine;
    return bench::run_runner(argc, argv, engine);
}
