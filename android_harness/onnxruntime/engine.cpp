// mobileclip-bench-onnxruntime: the library is opened at run time, so that one binary serves any version from 1.16 on.
#include <cstdlib>
#include <dlfcn.h>
#include <memory>
#include <stdexcept>

#include <onnxruntime_c_api.h>

#include "runner.hpp"

namespace {

// What is called here has been in the interface since this version; a newer library serves it as well.
constexpr std::uint32_t kInterface = 16;
static_assert(kInterface <= ORT_API_VERSION, "onnxruntime_c_api.h is older than ONNX Runtime 1.16");

const OrtApiBase& open_library() {
    const char* named = std::getenv("MOBILECLIP_ONNXRUNTIME");
    const char* file = named != nullptr ? named : "libonnxruntime.so";
    void* library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        throw std::runtime_error(std::string("ONNX Runtime cannot be opened: ") + dlerror() +
                                 "; put libonnxruntime.so next to this program");
    }
    const auto entry = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
    if (entry == nullptr) throw std::runtime_error(std::string(file) + " is no ONNX Runtime: it lacks OrtGetApiBase");
    return *entry();
}

const OrtApi& open_interface(const OrtApiBase& base) {
    const OrtApi* api = base.GetApi(kInterface);
    if (api == nullptr) {
        throw std::runtime_error(std::string("ONNX Runtime ") + base.GetVersionString() + " is too old: 1.16 or newer is needed");
    }
    return *api;
}

ONNXTensorElementDataType element_type(const std::string& dtype) {
    if (dtype == "float32") return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    if (dtype == "float16") return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    if (dtype == "uint8") return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    return dtype == "int32" ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
}

class OnnxRuntime final : public bench::Engine {
  public:
    ~OnnxRuntime() override {
        unload();
        if (environment_ != nullptr) api_->ReleaseEnv(environment_);
    }

    std::string runtime() const override { return "onnxruntime"; }

    std::string version() const override { return base().GetVersionString(); }

    void load(const std::filesystem::path& file, const bench::Cell& cell) override {
        if (api_ == nullptr) api_ = &open_interface(base());
        if (environment_ == nullptr) check(api_->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "mobileclip-bench", &environment_));
        OrtSessionOptions* raw = nullptr;
        check(api_->CreateSessionOptions(&raw));
        const std::unique_ptr<OrtSessionOptions, decltype(api_->ReleaseSessionOptions)> options(
            raw, api_->ReleaseSessionOptions);
        check(api_->SetIntraOpNumThreads(raw, cell.threads));
        check(api_->SetInterOpNumThreads(raw, 1));
        check(api_->SetSessionExecutionMode(raw, ORT_SEQUENTIAL));
        for (const auto& [name, value] : cell.options) {
            check(api_->AddSessionConfigEntry(raw, name.c_str(), value.c_str()));
        }
        choose_provider(raw, cell);
        check(api_->CreateSession(environment_, file.c_str(), raw, &session_));
        bind(cell);
    }

    void unload() override {
        if (api_ == nullptr) return;
        if (output_ != nullptr) api_->ReleaseValue(output_);
        if (input_ != nullptr) api_->ReleaseValue(input_);
        if (session_ != nullptr) api_->ReleaseSession(session_);
        output_ = nullptr;
        input_ = nullptr;
        session_ = nullptr;
    }

    void feed(const std::vector<std::byte>& input) override {
        if (input.size() != input_bytes_.size()) throw std::runtime_error("the input does not fit the model's");
        std::copy(input.begin(), input.end(), input_bytes_.begin());
    }

    void infer() override {
        const char* input_names[] = {input_name_.c_str()};
        const char* output_names[] = {output_name_.c_str()};
        const OrtValue* inputs[] = {input_};
        check(api_->Run(session_, nullptr, input_names, inputs, 1, output_names, 1, &output_));
    }

    std::vector<std::byte> answer() const override { return output_bytes_; }

  private:
    const OrtApiBase& base() const {
        if (base_ == nullptr) base_ = &open_library();
        return *base_;
    }

    void check(OrtStatus* status) const {
        if (status == nullptr) return;
        const std::string text = api_->GetErrorMessage(status);
        api_->ReleaseStatus(status);
        throw std::runtime_error("ONNX Runtime: " + text);
    }

    void choose_provider(OrtSessionOptions* options, const bench::Cell& cell) const {
        if (cell.backend.value_or("cpu") == "cpu") return;
        if (*cell.backend == "webgpu") {
            check(api_->SessionOptionsAppendExecutionProvider(options, "WebGPU", nullptr, nullptr, 0));
            return;
        }
        if (*cell.backend != "xnnpack") {
            throw std::runtime_error("ONNX Runtime backend " + *cell.backend + " is unknown here; known: cpu, webgpu, xnnpack");
        }
        // XNNPACK has a pool of its own: the session's would compete with it.
        const auto threads = std::to_string(cell.threads);
        const char* keys[] = {"intra_op_num_threads"};
        const char* values[] = {threads.c_str()};
        check(api_->SetIntraOpNumThreads(options, 1));
        check(api_->SessionOptionsAppendExecutionProvider(options, "XNNPACK", keys, values, 1));
    }

    void bind(const bench::Cell& cell) {
        input_name_ = cell.input.name;
        output_name_ = cell.output.name;
        input_bytes_.assign(cell.input.bytes(), std::byte{0});
        output_bytes_.assign(cell.output.bytes(), std::byte{0});
        OrtMemoryInfo* memory = nullptr;
        check(api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
        const std::unique_ptr<OrtMemoryInfo, decltype(api_->ReleaseMemoryInfo)> owner(memory, api_->ReleaseMemoryInfo);
        const auto wrap = [&](std::vector<std::byte>& bytes, const bench::Tensor& tensor, OrtValue** value) {
            check(api_->CreateTensorWithDataAsOrtValue(memory, bytes.data(), bytes.size(), tensor.shape.data(),
                                                       tensor.shape.size(), element_type(tensor.dtype), value));
        };
        wrap(input_bytes_, cell.input, &input_);
        wrap(output_bytes_, cell.output, &output_);
    }

    mutable const OrtApiBase* base_ = nullptr;
    const OrtApi* api_ = nullptr;
    OrtEnv* environment_ = nullptr;
    OrtSession* session_ = nullptr;
    OrtValue* input_ = nullptr;
    OrtValue* output_ = nullptr;
    std::string input_name_;
    std::string output_name_;
    std::vector<std::byte> input_bytes_;
    std::vector<std::byte> output_bytes_;
};

}  // namespace

int main(int argc, char** argv) {
    OnnxRuntime engine;
    return bench::run_runner(argc, argv, engine);
}
