// The limit of these cores: what a product of two large matrices and copies of memory reach on them.
#pragma once

#include "job.hpp"

namespace bench {

// One of the record's `peaks`, for so many threads: products of `side` * `side` matrices in float32 and in int8, where
// `side` is 1024, or less where one would take more than about half a second; and copies, by one thread, in memory and at
// one thread within a cache. The fastest of five, by CPU time at one thread and by the clock at several. A short probe takes
// a tenth of the time or less: a product may take a fiftieth of a second, and everything is measured once.
Json measure_peak(int threads, bool is_short);

}  // namespace bench
