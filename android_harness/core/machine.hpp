// What this device is and the state it is in, as far as a program on it can find out; the driver knows more.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "job.hpp"

namespace bench {

// `device` of the record. `simulated`: a stand-in runs this in a phone's place.
Json describe_device(bool simulated);

// `harness` of the record.
Json describe_harness();

// A snapshot of the record's `environment`.
Json snapshot();

// The cores that this process may run on; empty if it may run on all.
std::vector<int> affinity();

// The core that this thread runs on now.
int current_core();

// `cores` of a round: how many inferences ended on which core, and its clock now: what it runs at (running_khz), what the
// system allows it (allowed_khz) and what it can (maximum_khz); a clock that the system does not report is left out.
Json cores_used(const std::map<int, std::int64_t>& inferences);

// `dumpsys thermalservice`'s status in the record's words; none where there is no such service.
std::optional<std::string> thermal_state();

// The status in the text that dumpsys printed: 0 nominal, 1 and 2 fair, 3 serious, from 4 on critical.
std::optional<std::string> parse_thermal_state(const std::string& dump);

}  // namespace bench
