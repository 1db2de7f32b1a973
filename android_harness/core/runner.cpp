#include "runner.hpp"

#include <cstdio>
#include <exception>
#include <string>
#include <unistd.h>

#include "files.hpp"
#include "round.hpp"

namespace bench {
namespace {

// Runtimes write to stdout too: our answer gets the stream for itself, everything else goes to stderr.
class Answer {
  public:
    Answer() : descriptor_(dup(STDOUT_FILENO)) { dup2(STDERR_FILENO, STDOUT_FILENO); }
    Answer(const Answer&) = delete;
    Answer& operator=(const Answer&) = delete;
    ~Answer() { close(descriptor_); }

    bool write(const Json& value) const {
        const auto text = compact(value) + "\n";
        std::size_t written = 0;
        while (written < text.size()) {
            const auto count = ::write(descriptor_, text.data() + written, text.size() - written);
            if (count <= 0) return false;
            written += static_cast<std::size_t>(count);
        }
        return true;
    }

  private:
    int descriptor_;
};

}  // namespace

int run_runner(int argc, char** argv, Engine& engine) {
    const Answer answer;
    try {
        if (argc == 2 && std::string(argv[1]) == "--version") {
            return answer.write({{"runtime", engine.runtime()}, {"version", engine.version()}}) ? 0 : 3;
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", one_line(error.what()).c_str());
        return 3;
    }
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s --version | FOLDER CELL ROUND\n", argv[0]);
        return 2;
    }
    try {
        const auto job = read_job(argv[1]);
        const auto round = std::stoll(argv[3]);
        return answer.write(run_round(job, job.cell(argv[2]), round, engine, argv[1])) ? 0 : 3;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", one_line(error.what()).c_str());
        return 2;
    }
}

}  // namespace bench
