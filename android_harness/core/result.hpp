// `<run_id>.result.json`: the rounds of a run put together. Summaries are left to whoever fetches it.
#pragma once

#include <string>
#include <vector>

#include "job.hpp"

namespace bench {

// `harness` of the result.
Json describe_harness();

// `cells` of the result, in the order of the job's.
Json cell_results(const Job& job, const std::vector<Json>& finished);

Json assemble(const Job& job, const std::vector<Json>& finished, const Json& device, const Json& runtimes,
              const Json& before, const Json& after);

}  // namespace bench
