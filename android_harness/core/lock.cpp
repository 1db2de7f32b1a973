#include "lock.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <string>
#include <sys/file.h>
#include <unistd.h>

namespace bench {
namespace {

constexpr int kAttempts = 100;
constexpr useconds_t kPause = 100'000;

int open_lock(const std::filesystem::path& file) {
    const int descriptor = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0) throw std::runtime_error("cannot open " + file.string() + ": " + std::strerror(errno));
    return descriptor;
}

}  // namespace

DeviceLock::DeviceLock(const std::filesystem::path& file) : descriptor_(open_lock(file)) {
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
        close(descriptor_);
        throw DeviceBusy("another benchmark runs on this device: wait for its end, or end it with --stop");
    }
    const auto pid = std::to_string(getpid()) + "\n";
    if (ftruncate(descriptor_, 0) != 0 || write(descriptor_, pid.data(), pid.size()) < 0) {
        const std::string reason = std::strerror(errno);
        close(descriptor_);
        throw std::runtime_error("cannot write " + file.string() + ": " + reason + "; make room on the device");
    }
}

DeviceLock::~DeviceLock() { close(descriptor_); }

bool is_held(const std::filesystem::path& file) {
    if (!std::filesystem::exists(file)) return false;
    const int descriptor = open_lock(file);
    const bool is_free = flock(descriptor, LOCK_EX | LOCK_NB) == 0;
    close(descriptor);
    return !is_free;
}

bool end_lock_holder(const std::filesystem::path& file) {
    if (!std::filesystem::exists(file)) return true;
    const int descriptor = open_lock(file);
    bool is_free = false;
    for (int attempt = 0; attempt < kAttempts && !is_free; ++attempt) {
        is_free = flock(descriptor, LOCK_EX | LOCK_NB) == 0;
        if (is_free) break;
        // The number is the holder's: only a process that holds the lock writes it, and this one holds it now.
        std::array<char, 32> text{};
        if (pread(descriptor, text.data(), text.size() - 1, 0) > 0) {
            const long pid = std::strtol(text.data(), nullptr, 10);
            if (pid > 1) kill(static_cast<pid_t>(pid), attempt < kAttempts / 2 ? SIGTERM : SIGKILL);
        }
        usleep(kPause);
    }
    close(descriptor);
    return is_free;
}

}  // namespace bench
