#include <doctest/doctest.h>

#include "clock.hpp"
#include "machine.hpp"

using namespace bench;

TEST_CASE("thermal states are in the result's words") {
    CHECK(parse_thermal_state("IsStatusOverride: false\nThermal Status: 0\n") == "nominal");
    CHECK(parse_thermal_state("Thermal Status: 2\n") == "fair");
    CHECK(parse_thermal_state("Thermal Status: 3\n") == "serious");
    CHECK(parse_thermal_state("Thermal Status: 6\n") == "critical");
    CHECK_FALSE(parse_thermal_state("Can't find service: thermalservice\n").has_value());
}

TEST_CASE("a stand-in is marked") {
    CHECK(describe_device(true)["simulated"] == true);
    CHECK(describe_device(false)["simulated"] == false);
    CHECK(describe_device(false)["cores"].get<int>() >= 1);
}

TEST_CASE("clocks go forward, and CPU time is not wall time") {
    const auto wall = wall_ns(), cpu = cpu_ns();
    volatile double sum = 0;
    for (int i = 0; i < 1'000'000; ++i) sum = sum + i;
    CHECK(wall_ns() > wall);
    CHECK(cpu_ns() > cpu);
    CHECK(*peak_memory_bytes() > 0);
}
