#include <doctest/doctest.h>

#include "files.hpp"
#include "jobs.hpp"
#include "round.hpp"
#include "stream.hpp"

using namespace bench;

namespace {

Json done(const Job& job, const std::string& cell, int round) {
    return {{"run_id", job.run_id}, {"cell", cell},           {"round", round},
            {"status", "done"},     {"samples_ns", {5, 4, 6}}, {"peak_memory_bytes", 1000 + round}};
}

}  // namespace

TEST_CASE("nothing was run where there is no stream") {
    const tests::Folder folder;
    const auto job = tests::job_in(folder.path);
    CHECK(read_stream(folder.path, job).empty());
    CHECK(outstanding(job, {}).size() == 4);
}

TEST_CASE("a line that was cut off is removed, and its turn is run again") {
    const tests::Folder folder;
    const auto job = tests::job_in(folder.path);
    const auto file = stream_file(folder.path, job);
    append_line(file, compact(done(job, "b", 0)));
    const auto whole = tests::read(file);
    tests::write(file, whole + "{\"run_id\":\"run-1\",\"ce");
    CHECK(read_stream(folder.path, job).size() == 1);
    CHECK(tests::read(file) == whole);
    const auto left = outstanding(job, read_stream(folder.path, job));
    REQUIRE(left.size() == 3);
    CHECK(left.front().cell == "a");
}

TEST_CASE("a line that holds nulls is read as if they were absent") {
    const tests::Folder folder;
    const auto job = tests::job_in(folder.path);
    auto line = done(job, "a", 0);
    for (const char* name : {"peak_memory_bytes", "error", "golden", "load_first_ns"}) line[name] = nullptr;
    append_line(stream_file(folder.path, job), compact(line));
    const auto round = read_stream(folder.path, job).at(0);
    CHECK_FALSE(round.contains("golden"));
    CHECK_FALSE(round.contains("peak_memory_bytes"));
}

TEST_CASE("a foreign or doubled line is refused, by its number") {
    const tests::Folder folder;
    const auto job = tests::job_in(folder.path);
    const auto file = stream_file(folder.path, job);
    append_line(file, compact(done(job, "b", 0)));
    append_line(file, compact(done(job, "b", 0)));
    CHECK_THROWS_WITH_AS(read_stream(folder.path, job), doctest::Contains("line 2"), JobError);
    auto foreign = done(job, "b", 0);
    foreign["run_id"] = "another";
    tests::write(file, compact(foreign) + "\n");
    CHECK_THROWS_WITH_AS(read_stream(folder.path, job), doctest::Contains("line 1"), JobError);
}

TEST_CASE("a cell that failed is not run further") {
    const tests::Folder folder;
    const auto job = tests::job_in(folder.path);
    const auto left = outstanding(job, {failed_round(job, "b", 0, "no memory")});
    REQUIRE(left.size() == 2);
    CHECK(left[0].cell == "a");
    CHECK(left[1].cell == "a");
}

TEST_CASE("a file is replaced whole, and nothing is left next to it") {
    const tests::Folder folder;
    replace_file(folder.path / "result.json", "one");
    replace_file(folder.path / "result.json", "two");
    CHECK(tests::read(folder.path / "result.json") == "two");
    CHECK(std::distance(std::filesystem::directory_iterator(folder.path), std::filesystem::directory_iterator()) == 1);
    CHECK_THROWS_WITH(append_line(folder.path / "no/such/folder", "x"), doctest::Contains("No such file"));
    if (std::filesystem::exists("/dev/full")) CHECK_THROWS_WITH(append_line("/dev/full", "x"), doctest::Contains("make room"));
}
