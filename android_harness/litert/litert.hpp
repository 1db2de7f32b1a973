// LiteRT's C interface, as far as it is called here, in declarations of our own: its headers come with no package that
// pip or a distribution has. Names, types and numbers are those of litert/c/*.h in google-ai-edge/LiteRT; handles are
// opaque there too, and the three structs are called ABI stable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace bench::litert {

using Handle = void*;         // LiteRtEnvironment, LiteRtModel, ... : pointers to what only the library knows
using Status = std::int32_t;  // LiteRtStatus; 0 is good

// LiteRtHwAccelerators
constexpr std::int32_t kCpu = 1, kGpu = 2;
// LiteRtTensorBufferLockMode
constexpr std::int32_t kRead = 0, kWrite = 1;
// LiteRtEnvOptionTag
constexpr std::int32_t kRuntimeLibraryFolder = 22, kRegisteredAccelerators = 24, kLeastLogSeverity = 25;
// LiteRtLogSeverity
constexpr std::int32_t kLogErrors = 3;

// LiteRtAny
struct Value {
    std::int32_t type;
    union {
        std::int64_t number;
        const char* text;
    };
};

// LiteRtEnvOption
struct EnvironmentOption {
    std::int32_t tag;
    Value value;
};
static_assert(sizeof(EnvironmentOption) == 24, "as LiteRT asserts it of its own");

inline EnvironmentOption number_option(std::int32_t tag, std::int64_t number) {
    EnvironmentOption option{tag, {2, {}}};
    option.value.number = number;
    return option;
}

inline EnvironmentOption text_option(std::int32_t tag, const char* text) {
    EnvironmentOption option{tag, {8, {}}};
    option.value.text = text;
    return option;
}

// LiteRtRankedTensorType with its LiteRtLayout.
struct TensorType {
    std::int32_t element;
    std::uint32_t rank : 7;
    std::uint32_t has_strides : 1;
    std::int32_t dimensions[8];
    std::uint32_t strides[8];
};
static_assert(sizeof(TensorType) == 72, "as LiteRT asserts it of its own");

struct Api {
    std::filesystem::path library;

    Status (*CreateEnvironment)(int, const EnvironmentOption*, Handle*);
    void (*DestroyEnvironment)(Handle);
    Status (*GetNumAccelerators)(Handle environment, std::size_t*);
    Status (*CreateModelFromFile)(Handle environment, const char* file, Handle* model);
    void (*DestroyModel)(Handle);
    Status (*GetModelSignature)(Handle model, std::size_t index, Handle* signature);
    Status (*GetNumSignatureInputs)(Handle signature, std::size_t*);
    Status (*GetNumSignatureOutputs)(Handle signature, std::size_t*);
    Status (*GetSignatureInputTensorByIndex)(Handle signature, std::size_t index, Handle* tensor);
    Status (*GetSignatureOutputTensorByIndex)(Handle signature, std::size_t index, Handle* tensor);
    Status (*GetRankedTensorType)(Handle tensor, TensorType*);
    Status (*CreateOptions)(Handle*);
    void (*DestroyOptions)(Handle);
    Status (*SetOptionsHardwareAccelerators)(Handle options, std::int32_t accelerators);
    // Of the CPU `identifier` is "xnnpack" and `payload` a text in TOML.
    Status (*CreateOpaqueOptions)(const char* identifier, void* payload, void (*release)(void*), Handle*);
    Status (*AddOpaqueOptions)(Handle options, Handle opaque);
    Status (*CreateCompiledModel)(Handle environment, Handle model, Handle options, Handle* compiled);
    void (*DestroyCompiledModel)(Handle);
    Status (*GetCompiledModelInputBufferRequirements)(Handle, std::size_t signature, std::size_t index, Handle*);
    Status (*GetCompiledModelOutputBufferRequirements)(Handle, std::size_t signature, std::size_t index, Handle*);
    Status (*CreateManagedTensorBufferFromRequirements)(Handle environment, const TensorType*, Handle requirements, Handle*);
    void (*DestroyTensorBuffer)(Handle);
    Status (*LockTensorBuffer)(Handle, void** place, std::int32_t mode);
    Status (*UnlockTensorBuffer)(Handle);
    Status (*RunCompiledModel)(Handle, std::size_t signature, std::size_t, Handle* inputs, std::size_t, Handle* outputs);
};

// Throws std::runtime_error if there is no such library, or one from before 2.1.6.
Api open(const std::string& file);

// LiteRtStatus in words, and its number.
std::string status_text(Status status);

}  // namespace bench::litert
