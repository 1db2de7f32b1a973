// mobileclip-bench: runs a job's plan on this device.
#include <cstdio>
#include <exception>
#include <sched.h>
#include <stdexcept>
#include <string>

#include "files.hpp"
#include "lock.hpp"
#include "machine.hpp"
#include "plan.hpp"
#include "process.hpp"
#include "round.hpp"

namespace {

constexpr const char* kUsage =
    "usage: mobileclip-bench FOLDER [--resume] [--first] [--lock FILE] [--runners FOLDER] [--turn-timeout SECONDS]\n"
    "                        [--simulated] [--loader FILE] [--pin THREADS=CORE[,CORE...]]...\n"
    "       mobileclip-bench --held FILE        says whether a benchmark holds the lock FILE: exit code 4 if so\n"
    "       mobileclip-bench --stop FILE        ends the benchmark that holds the lock FILE\n"
    "       mobileclip-bench --version          what this is, as JSON\n"
    "FOLDER holds job.json and what it names. Rounds are appended to <run_id>.rounds.jsonl there, <run_id>.run.json\n"
    "is written at the end. Exit codes: 0 the plan was run (failed rounds are in the record), 2 wrong use or a bad job,\n"
    "3 the device failed, 4 another benchmark runs. --first runs the first round of each cell alone; --loader starts the\n"
    "runners with a C library that is next to them; --pin says on which cores the rounds of cells with so many threads\n"
    "run.\n";

// `2=4,5` -> rounds of cells with two threads run on the cores 4 and 5. Throws std::exception for anything else.
void pin(bench::PlanOptions& options, const std::string& word) {
    std::size_t read = 0;
    auto& cores = options.cores[std::stoi(word, &read)];
    for (char separator = '='; read < word.size(); separator = ',') {
        if (word[read] != separator) throw std::invalid_argument(word);
        std::size_t digits = 0;
        cores.push_back(std::stoi(word.substr(read + 1), &digits));
        if (cores.back() < 0 || cores.back() >= CPU_SETSIZE) throw std::invalid_argument(word);
        read += 1 + digits;
    }
}

int stop(const std::string& lock) {
    if (bench::end_lock_holder(lock)) return 0;
    std::fprintf(stderr, "the benchmark that holds %s does not end\n", lock.c_str());
    return 4;
}

}  // namespace

int main(int argc, char** argv) {
    bench::PlanOptions options;
    std::string lock_file;
    try {
        if (argc == 3 && std::string(argv[1]) == "--held") return bench::is_held(argv[2]) ? 4 : 0;
        if (argc == 3 && std::string(argv[1]) == "--stop") return stop(argv[2]);
        if (argc == 2 && std::string(argv[1]) == "--version") {
            std::printf("%s\n", bench::compact(bench::describe_harness()).c_str());
            return 0;
        }
        options.runners = std::filesystem::path(argv[0]).parent_path();
        for (int i = 1; i < argc; ++i) {
            const std::string word = argv[i];
            const bool has_value = i + 1 < argc;
            if (word == "--resume") {
                options.resume = true;
            } else if (word == "--first") {
                options.first = true;
            } else if (word == "--simulated") {
                options.simulated = true;
            } else if (word == "--lock" && has_value) {
                lock_file = argv[++i];
            } else if (word == "--runners" && has_value) {
                options.runners = argv[++i];
            } else if (word == "--loader" && has_value) {
                options.loader = argv[++i];
            } else if (word == "--pin" && has_value) {
                pin(options, argv[++i]);
            } else if (word == "--turn-timeout" && has_value) {
                options.turn_limit = std::chrono::milliseconds(static_cast<long long>(std::stod(argv[++i]) * 1000));
            } else if (word.rfind("--", 0) != 0 && options.folder.empty()) {
                options.folder = word;
            } else {
                std::fputs(kUsage, stderr);
                return 2;
            }
        }
    } catch (const std::exception&) {
        std::fputs(kUsage, stderr);
        return 2;
    }
    if (options.folder.empty()) {
        std::fputs(kUsage, stderr);
        return 2;
    }
    bench::end_on_signals();
    try {
        const bench::DeviceLock lock(lock_file.empty() ? options.folder / "lock" : std::filesystem::path(lock_file));
        bench::run_plan(options);
        return 0;
    } catch (const bench::JobError& error) {
        std::fprintf(stderr, "%s\n", bench::one_line(error.what()).c_str());
        return 2;
    } catch (const bench::DeviceBusy& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 4;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", bench::one_line(error.what()).c_str());
        return 3;
    }
}
