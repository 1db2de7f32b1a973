#include <doctest/doctest.h>

#include <functional>

#include "jobs.hpp"

using bench::JobError;
using bench::Json;

namespace {

std::string complaint(const std::function<void(Json&)>& change) {
    auto document = tests::job();
    change(document);
    try {
        bench::parse_job(document.dump());
    } catch (const JobError& error) {
        return error.what();
    }
    return "accepted";
}

}  // namespace

TEST_CASE("a job is read as it was written") {
    const tests::Folder folder;
    const auto job = tests::job_in(folder.path);
    CHECK(job.run_id == "run-1");
    CHECK(job.document == tests::job());
    CHECK(job.order.front().cell == "b");
    CHECK(job.cell("a").input.bytes() == 12);
    CHECK(job.cell("a").golden->inputs.shape == std::vector<std::int64_t>{2, 3});
}

TEST_CASE("a nullable field may be null or absent") {
    CHECK(complaint([](Json& job) { job["cells"][0]["golden"] = nullptr, job["cells"][0]["gate"] = nullptr; }) == "accepted");
    CHECK(complaint([](Json& job) { job["cells"][0].erase("golden"), job["cells"][0].erase("gate"); }) == "accepted");
}

TEST_CASE("what is no job is refused, and the field is named") {
    const auto refused = [](const std::function<void(Json&)>& change, const std::string& what) {
        CHECK_MESSAGE(complaint(change).find(what) != std::string::npos, complaint(change));
    };
    refused([](Json& job) { job["schema_version"] = 2; }, "schema version 2");
    refused([](Json& job) { job["surprise"] = 1; }, "job.surprise");
    refused([](Json& job) { job["cells"][0]["surprise"] = 1; }, "job.cells.0.surprise");
    refused([](Json& job) { job["cells"][0]["file"] = "../secret"; }, "a.file");
    refused([](Json& job) { job["cells"][0]["file"] = "/etc/passwd"; }, "a.file");
    refused([](Json& job) { job["cells"][0]["id"] = "a; rm -rf"; }, "cell.id");
    refused([](Json& job) { job["cells"][1]["id"] = "a"; }, "same id");
    refused([](Json& job) { job["cells"][0]["gate"] = nullptr; }, "golden and gate come together");
    refused([](Json& job) { job["cells"][0]["input"]["shape"][0] = -1; }, "free or empty dimension");
    refused([](Json& job) { job["cells"][0]["threads"] = "two"; }, "(/cells/0/threads) type must be number");
    refused([](Json& job) { job["cells"][0]["input"]["dtype"] = "complex"; }, "unknown dtype complex");
    refused([](Json& job) { job["cells"][0].erase("file"); }, "(/cells/0) key 'file' not found");
    refused([](Json& job) { job["cells"] = 1; }, "cells");
    refused([](Json& job) { job["order"].erase(0); }, "every round of every cell once");
    CHECK_THROWS_WITH_AS(bench::parse_job("{\"run_id\":"), doctest::Contains("cut off"), JobError);
    CHECK_THROWS_WITH_AS(bench::read_job("/nowhere"), doctest::Contains("name the job's folder"), JobError);
}
