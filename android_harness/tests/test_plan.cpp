#include <doctest/doctest.h>

#include <sys/stat.h>

#include "files.hpp"
#include "jobs.hpp"
#include "plan.hpp"

using namespace bench;
using namespace std::chrono_literals;

namespace {

// A job in a folder, and runners that are shell scripts.
struct ScriptedPlan {
    ScriptedPlan() : job(tests::job_in(folder.path)) {
        options.folder = folder.path;
        options.runners = folder.path / "bin";
        options.turn_limit = 60s;
        good("onnxruntime");
        good("executorch");
    }

    void runner(const std::string& runtime, const std::string& script) const {
        const auto file = folder.path / "bin" / ("mobileclip-bench-" + runtime);
        tests::write(file, "#!/bin/sh\n[ \"$1\" = --version ] && echo '{\"runtime\":\"x\",\"version\":\"9.9\"}' && exit\n" + script);
        chmod(file.c_str(), 0755);
    }

    void good(const std::string& runtime) const {
        runner(runtime,
               "echo \"$2 $3\" >>\"$1/calls\"\n"
               "echo \"{\\\"run_id\\\":\\\"run-1\\\",\\\"cell\\\":\\\"$2\\\",\\\"round\\\":$3,\\\"status\\\":\\\"done\\\",\\\"samples_ns\\\":[1,2]}\"\n");
    }

    Json record() const { return Json::parse(tests::read(folder.path / "run-1.run.json")); }

    std::vector<Json> rounds(const std::string& cell) const {
        std::vector<Json> found;
        const auto whole = record();
        for (const auto& round : whole["rounds"]) {
            if (round["cell"] == cell) found.push_back(round);
        }
        return found;
    }

    tests::Folder folder;
    Job job;
    PlanOptions options;
};

}  // namespace

TEST_CASE("the plan is run in its order, and the record is whole") {
    ScriptedPlan it;
    run_plan(it.options);
    CHECK(tests::read(it.folder.path / "calls") == "b 0\na 0\na 1\nb 1\n");
    const auto record = it.record();
    CHECK(record["job"] == tests::job());
    CHECK(record["runtimes"]["onnxruntime"] == "9.9");
    CHECK(it.rounds("a").at(0)["status"] == "done");
    CHECK(it.rounds("b").size() == 2);
}

TEST_CASE("a plan that was begun is neither begun again nor lost") {
    ScriptedPlan it;
    run_plan(it.options);
    CHECK_THROWS_WITH_AS(run_plan(it.options), doctest::Contains("--resume"), JobError);
    const auto file = it.folder.path / "run-1.rounds.jsonl";
    const auto lines = tests::read(file);
    tests::write(file, lines.substr(0, lines.size() - 10));
    it.options.resume = true;
    run_plan(it.options);
    CHECK(tests::read(it.folder.path / "calls") == "b 0\na 0\na 1\nb 1\nb 1\n");
    CHECK(it.rounds("b").at(1)["status"] == "done");
}

TEST_CASE("the first rounds may be run alone, and a cell that is called invalid meanwhile has no others") {
    ScriptedPlan it;
    it.options.first = true;
    run_plan(it.options);
    CHECK(tests::read(it.folder.path / "calls") == "b 0\na 0\n");
    auto judged = it.rounds("b").at(0);
    judged["status"] = "invalid";
    tests::write(it.folder.path / "run-1.rounds.jsonl", compact(judged) + "\n" + compact(it.rounds("a").at(0)) + "\n");
    it.options.first = false;
    it.options.resume = true;
    run_plan(it.options);
    CHECK(tests::read(it.folder.path / "calls") == "b 0\na 0\na 1\n");
    CHECK(it.rounds("b").size() == 1);
}

TEST_CASE("a runner that crashes, hangs, is missing or writes half a line fails its cell and no other") {
    ScriptedPlan it;
    std::string wanted;
    SUBCASE("crashes") { it.runner("executorch", "kill -SEGV $$"), wanted = "signal 11"; }
    SUBCASE("hangs") {
        it.runner("executorch", "exec sleep 600");
        it.options.turn_limit = 1s;
        wanted = "no answer within 1 s";
    }
    SUBCASE("half a line") { it.runner("executorch", "printf '{\"run_id\":\"run-1\",'"), wanted = "half of one"; }
    SUBCASE("another turn's answer") {
        it.runner("executorch", "echo '{\"run_id\":\"run-1\",\"cell\":\"a\",\"round\":0,\"status\":\"done\",\"samples_ns\":[1]}'");
        wanted = "wrote no round";
    }
    SUBCASE("missing") { std::filesystem::remove(it.folder.path / "bin/mobileclip-bench-executorch"), wanted = "is not there"; }
    run_plan(it.options);
    CHECK(it.rounds("a").at(0)["status"] == "done");
    const auto failed = it.rounds("b");
    REQUIRE(failed.size() == 1);
    CHECK(failed[0]["status"] == "failed");
    CHECK_MESSAGE(failed[0]["error"].get<std::string>().find(wanted) != std::string::npos, failed[0]["error"]);
}
