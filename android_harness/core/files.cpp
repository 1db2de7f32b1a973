#include "files.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace bench {
namespace {

[[noreturn]] void fail(const std::filesystem::path& file) {
    const int error = errno;
    throw std::runtime_error("cannot write " + file.string() + ": " + std::strerror(error) +
                             (error == ENOSPC ? "; make room on the device" : ""));
}

void write_synced(const std::filesystem::path& file, const std::string& text, int flags) {
    const int descriptor = open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    if (descriptor < 0) fail(file);
    std::size_t written = 0;
    while (written < text.size()) {
        const auto count = write(descriptor, text.data() + written, text.size() - written);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
            const int error = errno;
            close(descriptor);
            errno = error;
            fail(file);
        }
        written += static_cast<std::size_t>(count);
    }
    const bool synced = fsync(descriptor) == 0;
    if (close(descriptor) != 0 || !synced) fail(file);
}

}  // namespace

std::string compact(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

void append_line(const std::filesystem::path& file, const std::string& line) {
    write_synced(file, line + "\n", O_APPEND);
}

void replace_file(const std::filesystem::path& file, const std::string& text) {
    const auto temporary = file.parent_path() / ("." + file.filename().string() + "." + std::to_string(getpid()));
    try {
        write_synced(temporary, text, O_TRUNC);
    } catch (...) {
        std::error_code ignored;
        std::filesystem::remove(temporary, ignored);
        throw;
    }
    std::filesystem::rename(temporary, file);
}

}  // namespace bench
