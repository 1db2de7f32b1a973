#include "peak.hpp"

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "clock.hpp"
#include "product.hpp"

namespace bench {
namespace {

constexpr std::size_t kSmallestSide = 64, kLargestSide = 1024;
constexpr std::size_t kCopied = 64 << 20;                   // more than the last cache of most processors has
constexpr std::size_t kCached = 128 << 10, kCopies = 64;    // with their copy, what the second cache of most holds

struct Effort {
    double patience_seconds;  // for the largest product
    int repeats;
};
constexpr Effort kWhole{0.5, 5}, kShort{0.02, 1};

// Keeps the compiler from leaving out what nobody reads.
void keep(const void* memory) { __asm__ volatile("" : : "g"(memory) : "memory"); }

// Seconds, the least of several, after one that does not count.
template <class Work>
double fastest(const Work& work, std::int64_t (*clock)(), int repeats) {
    work();
    std::int64_t least = 0;
    for (int i = 0; i < repeats; ++i) {
        const auto start = clock();
        work();
        const auto took = std::max<std::int64_t>(clock() - start, 1);
        least = i == 0 ? took : std::min(least, took);
    }
    return static_cast<double>(least) / 1e9;
}

template <class Number, class Sum>
Product<Number, Sum> product_of(Kernel<Number, Sum> kernel, std::size_t side) {
    std::mt19937 random(0);
    std::vector<Number> left(side * side), right(side * side);
    for (auto* matrix : {&left, &right}) {
        for (auto& one : *matrix) one = static_cast<Number>(static_cast<int>(random() % 255) - 127);
    }
    return {kernel, std::move(left), right, side};
}

// Multiplications and additions a second.
template <class Number, class Sum>
double rate(Kernel<Number, Sum> kernel, std::size_t side, int threads, std::int64_t (*clock)(), int repeats) {
    auto product = product_of(kernel, side);
    const auto operations = 2.0 * static_cast<double>(side) * static_cast<double>(side) * static_cast<double>(side);
    return operations / fastest([&] { product.run(threads); }, clock, repeats);
}

// As large as it may be. What emulates a processor takes minutes for the largest.
std::size_t side_for(int threads, std::int64_t (*clock)(), double patience_seconds) {
    auto side = kSmallestSide;
    while (side < kLargestSide) {
        const auto slower = std::min(rate(float_kernel(), side, threads, clock, 1), rate(byte_kernel(), side, threads, clock, 1));
        if (2.0 * static_cast<double>(8 * side * side * side) / slower > patience_seconds) break;
        side *= 2;
    }
    return side;
}

// Bytes a second that copies of `size` bytes read and write. One thread copies, whatever the products have.
double copied(std::size_t size, std::size_t times, std::int64_t (*clock)(), int repeats) {
    std::vector<char> source(size, 1), destination(size, 2);
    const auto copy = [&] {
        for (std::size_t i = 0; i < times; ++i) {
            std::memcpy(destination.data(), source.data(), size);
            keep(destination.data());
        }
    };
    return 2.0 * static_cast<double>(size * times) / fastest(copy, clock, repeats);
}

}  // namespace

Json measure_peak(int threads, bool is_short) {
    const auto clock = threads == 1 ? cpu_ns : wall_ns;
    const auto [patience_seconds, repeats] = is_short ? kShort : kWhole;
    const auto side = side_for(threads, clock, patience_seconds);
    const auto floats = float_kernel();
    const auto bytes = byte_kernel();
    Json found{{"engine", std::string("mobileclip-bench's own loops, float32 by ") + floats.name + ", int8 by " + bytes.name},
               {"threads", threads},
               {"side", side},
               {"float32_operations_per_second", rate(floats, side, threads, clock, repeats)},
               {"int8_operations_per_second", rate(bytes, side, threads, clock, repeats)},
               {"copied_bytes_per_second", copied(kCopied, 1, clock, repeats)}};
    if (threads == 1) found["cached_bytes_per_second"] = copied(kCached, kCopies, clock, repeats);
    return found;
}

}  // namespace bench
