#include "litert.hpp"

#include <dlfcn.h>
#include <map>
#include <stdexcept>

namespace bench::litert {
namespace {

template <typename Function>
void look_up(void* library, const std::string& file, const char* name, Function*& into) {
    into = reinterpret_cast<Function*>(dlsym(library, name));
    if (into == nullptr) throw std::runtime_error(file + " is no LiteRT from 2.1.6 on: it lacks " + name);
}

// Where the library was found.
std::filesystem::path path_of(const void* function, const std::string& file) {
    Dl_info found{};
    const bool known = dladdr(function, &found) != 0 && found.dli_fname != nullptr;
    return known ? std::filesystem::path(found.dli_fname) : std::filesystem::path(file);
}

}  // namespace

Api open(const std::string& file) {
    void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        throw std::runtime_error(std::string("LiteRT cannot be opened: ") + dlerror() + "; put libLiteRt.so next to this program");
    }
    // Before 2.1.6 CreateModelFromFile had a parameter less. The symbol checked here came with the change.
    const void* newer = nullptr;
    look_up(library, file, "LiteRtCreateModelFromFd", newer);
    Api api{};
#define LOOK_UP(name) look_up(library, file, "LiteRt" #name, api.name)
    LOOK_UP(CreateEnvironment);
    LOOK_UP(DestroyEnvironment);
    LOOK_UP(GetNumAccelerators);
    LOOK_UP(CreateModelFromFile);
    LOOK_UP(DestroyModel);
    LOOK_UP(GetModelSignature);
    LOOK_UP(GetNumSignatureInputs);
    LOOK_UP(GetNumSignatureOutputs);
    LOOK_UP(GetSignatureInputTensorByIndex);
    LOOK_UP(GetSignatureOutputTensorByIndex);
    LOOK_UP(GetRankedTensorType);
    LOOK_UP(CreateOptions);
    LOOK_UP(DestroyOptions);
    LOOK_UP(SetOptionsHardwareAccelerators);
    LOOK_UP(CreateOpaqueOptions);
    LOOK_UP(AddOpaqueOptions);
    LOOK_UP(CreateCompiledModel);
    LOOK_UP(DestroyCompiledModel);
    LOOK_UP(GetCompiledModelInputBufferRequirements);
    LOOK_UP(GetCompiledModelOutputBufferRequirements);
    LOOK_UP(CreateManagedTensorBufferFromRequirements);
    LOOK_UP(DestroyTensorBuffer);
    LOOK_UP(LockTensorBuffer);
    LOOK_UP(UnlockTensorBuffer);
    LOOK_UP(RunCompiledModel);
#undef LOOK_UP
    api.library = path_of(reinterpret_cast<const void*>(api.CreateEnvironment), file);
    return api;
}

std::string status_text(Status status) {
    static const std::map<Status, const char*> kWords{
        {1, "invalid argument"}, {2, "out of memory"},       {3, "failure at run time"}, {5, "not supported"},
        {6, "not found"},        {8, "wrong version"},       {500, "file cannot be read"},
        {501, "the file is damaged"}, {502, "a library cannot be loaded"}, {504, "compilation failed"},
    };
    const auto found = kWords.find(status);
    return (found == kWords.end() ? "failed" : std::string(found->second)) + " (status " + std::to_string(status) + ")";
}

}  // namespace bench::litert
