#include "process.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bench {
namespace {

volatile sig_atomic_t current_child = 0;

extern "C" void end_with_child(int signal_number) {
    if (current_child > 0) kill(current_child, SIGKILL);
    _exit(128 + signal_number);
}

// In the child, between fork and exec: async-signal-safe calls only.
[[noreturn]] void become(char* const* arguments, int output, pid_t parent, const cpu_set_t* cores) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (cores != nullptr) sched_setaffinity(0, sizeof(*cores), cores);
    if (getppid() != parent) _exit(127);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) signal(number, SIG_DFL);
    dup2(output, STDOUT_FILENO);
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0) dup2(nothing, STDIN_FILENO);
    execv(arguments[0], arguments);
    _exit(errno == ENOENT ? 127 : 126);
}

std::string described(int status, const std::string& program) {
    if (WIFSIGNALED(status)) {
        return program + " was ended by signal " + std::to_string(WTERMSIG(status)) + " (" + strsignal(WTERMSIG(status)) +
               ")" + (WTERMSIG(status) == SIGKILL ? ": out of memory, perhaps" : "");
    }
    switch (WEXITSTATUS(status)) {
        case 0: return "";
        case 126: return program + " cannot be executed here: was it built for this device?";
        case 127: return program + " is not there: build it and push it with the other runners";
        default: return program + " ended with exit code " + std::to_string(WEXITSTATUS(status));
    }
}

// Reads until the other end is closed; false if `limit` passed first.
bool read_all(int input, std::string& output, std::chrono::milliseconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    std::array<char, 65536> buffer{};
    while (true) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
        if (left.count() <= 0) return false;
        pollfd waiting{input, POLLIN, 0};
        const int ready = poll(&waiting, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 3'600'000)));
        if (ready < 0 && errno != EINTR) return false;
        if (ready <= 0) continue;
        const auto count = read(input, buffer.data(), buffer.size());
        if (count == 0) return true;
        if (count > 0) output.append(buffer.data(), static_cast<std::size_t>(count));
    }
}

}  // namespace

Outcome run_process(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                    std::chrono::milliseconds limit, const Start& start) {
    const std::string name = program.filename().string();
    std::vector<std::string> words;
    if (!start.loader.empty()) words = {start.loader.string(), "--library-path", program.parent_path().string()};
    words.push_back(program.string());
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (auto& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);

    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (const int core : start.cores) CPU_SET(core, &cores);

    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return {"", "no pipe: " + std::string(strerror(errno))};
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) return {"", "no process: " + std::string(strerror(errno))};
    if (child == 0) become(pointers.data(), ends[1], parent, start.cores.empty() ? nullptr : &cores);
    current_child = child;
    close(ends[1]);

    Outcome outcome;
    const bool ended = read_all(ends[0], outcome.output, limit);
    close(ends[0]);
    if (!ended) kill(child, SIGKILL);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    current_child = 0;
    outcome.error = ended ? described(status, name)
                          : name + " gave no answer within " + std::to_string(limit.count() / 1000) + " s and was killed";
    return outcome;
}

void end_on_signals() {
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) signal(number, end_with_child);
    signal(SIGPIPE, SIG_IGN);  // whoever watches may go away: the plan goes on, its stream is on the disk
}

}  // namespace bench
