#include "machine.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifdef __ANDROID__
#include <sys/system_properties.h>
#endif

#ifndef MOBILECLIP_HARNESS_VERSION
#error "the build defines MOBILECLIP_HARNESS_VERSION"
#endif

namespace bench {
namespace {

#ifdef __BIONIC__
constexpr const char* kCLibrary = "bionic";
#else
constexpr const char* kCLibrary = "glibc";
#endif

std::optional<std::string> first_line(const std::string& file) {
    std::ifstream stream(file);
    std::string line;
    if (!std::getline(stream, line) || line.empty()) return std::nullopt;
    return line;
}

std::string cpu_file(long core, const char* name) {
    return "/sys/devices/system/cpu/cpu" + std::to_string(core) + "/cpufreq/" + name;
}

// What a command writes. Only fixed commands: nothing of the job reaches this shell.
std::string output_of(const std::string& command) {
    FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
    if (pipe == nullptr) return "";
    std::string text;
    std::array<char, 4096> buffer{};
    for (std::size_t count; (count = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) text.append(buffer.data(), count);
    pclose(pipe);
    return text;
}

#ifdef __ANDROID__
std::string property(const char* name) {
    std::array<char, PROP_VALUE_MAX> value{};
    __system_property_get(name, value.data());
    return value.data();
}
#else
// glibc knows nothing of Android's properties; the phone's shell does, and elsewhere there is no such command.
std::string property(const char* name) {
    const auto text = output_of(std::string("getprop ") + name);
    return text.substr(0, text.find('\n'));
}
#endif

// As mobileclip_deploy/benchmark/android/device.py distinguishes a phone from a stand-in.
bool is_stand_in() {
    if (!std::filesystem::exists("/system/bin/linker64")) return true;
    if (property("ro.kernel.qemu") == "1" || property("ro.boot.qemu") == "1") return true;
    const auto hardware = property("ro.hardware");
    for (const char* one : {"goldfish", "ranchu", "cutf_cvm", "vsoc", "waydroid", "redroid", "nox", "vbox86"}) {
        if (hardware.rfind(one, 0) == 0) return true;
    }
    return false;
}

}  // namespace

Json describe_device(bool simulated) {
    utsname system{};
    uname(&system);
    const long cores = sysconf(_SC_NPROCESSORS_CONF);
    Json device{{"simulated", simulated}, {"architecture", system.machine}, {"cores", cores}};
    if (const auto version = property("ro.build.version.release"); !version.empty()) {
        device["kind"] = "android";
        device["simulated"] = simulated || is_stand_in();
        device["name"] = device["model"] = property("ro.product.model");
        device["os"] = "Android";
        device["os_version"] = version;
        for (const auto& [field, name] : {std::pair{"architecture", "ro.product.cpu.abi"},
                                          std::pair{"soc", "ro.soc.model"},
                                          std::pair{"build", "ro.build.fingerprint"}}) {
            if (const auto value = property(name); !value.empty()) device[field] = value;
        }
    } else {
        device["kind"] = "host";
        device["name"] = "host";
        device["model"] = system.machine;
        device["os"] = system.sysname;
        device["os_version"] = system.release;
    }
    device["memory_bytes"] = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
    device["core_maximum_khz"] = Json::array();
    for (long core = 0; core < cores; ++core) {
        if (const auto khz = first_line(cpu_file(core, "cpuinfo_max_freq"))) {
            device["core_maximum_khz"].push_back(std::stoll(*khz));
        }
    }
    return device;
}

Json describe_harness() {
    return {{"name", "mobileclip-bench"},
            {"version", MOBILECLIP_HARNESS_VERSION},
            {"build", MOBILECLIP_HARNESS_BUILD},
            {"c_library", kCLibrary},
            {"affinity", affinity()}};
}

Json snapshot() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    Json found{{"unix_seconds", static_cast<double>(now.tv_sec) + std::round(now.tv_nsec / 1e6) / 1e3}};
    if (const auto governor = first_line(cpu_file(0, "scaling_governor"))) found["governor"] = *governor;
    if (const auto load = first_line("/proc/loadavg")) found["load_average_1min"] = std::stod(*load);
    if (const auto state = thermal_state()) found["thermal_state"] = *state;
    return found;
}

std::vector<int> affinity() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    const long cores = sysconf(_SC_NPROCESSORS_CONF);
    std::vector<int> found;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return found;
    for (int core = 0; core < cores && core < CPU_SETSIZE; ++core) {
        if (CPU_ISSET(core, &allowed)) found.push_back(core);
    }
    return static_cast<long>(found.size()) == cores ? std::vector<int>{} : found;
}

int current_core() { return sched_getcpu(); }

Json cores_used(const std::map<int, std::int64_t>& inferences) {
    auto found = Json::array();
    for (const auto& [core, count] : inferences) {
        if (core < 0) continue;  // a kernel that does not report it
        Json one{{"core", core}, {"inferences", count}};
        for (const auto& [field, file] : {std::pair{"running_khz", "scaling_cur_freq"},
                                          std::pair{"allowed_khz", "scaling_max_freq"},
                                          std::pair{"maximum_khz", "cpuinfo_max_freq"}}) {
            if (const auto khz = first_line(cpu_file(core, file))) one[field] = std::stoll(*khz);
        }
        found.push_back(std::move(one));
    }
    return found;
}

std::optional<std::string> thermal_state() {
    return parse_thermal_state(output_of("dumpsys thermalservice"));
}

std::optional<std::string> parse_thermal_state(const std::string& dump) {
    static const std::regex pattern("Thermal Status: ([0-9]+)");
    std::smatch match;
    if (!std::regex_search(dump, match, pattern)) return std::nullopt;
    const auto status = match[1].str();
    if (status == "0") return "nominal";
    if (status == "1" || status == "2") return "fair";
    return status == "3" ? "serious" : "critical";
}

}  // namespace bench
