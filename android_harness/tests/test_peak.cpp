#include <doctest/doctest.h>

#include <string>

#include "peak.hpp"
#include "product.hpp"

using namespace bench;

namespace {

// The sums of every so many rows, against those computed as one writes a product.
template <class Number, class Sum>
void check_product(const Kernel<Number, Sum>& kernel, std::size_t side, std::size_t step, int threads) {
    std::vector<Number> left(side * side), right(side * side);
    for (std::size_t i = 0; i < side * side; ++i) {
        left[i] = static_cast<Number>(static_cast<int>(i * 7 % 255) - 127);
        right[i] = static_cast<Number>(static_cast<int>(i * 31 % 251) - 128);
    }
    Product<Number, Sum> product(kernel, left, right, side);
    product.run(threads);
    product.run(threads);  // nothing is left of the first
    std::size_t wrong = 0;
    for (std::size_t row = 0; row < side; row += step) {
        for (std::size_t column = 0; column < side; ++column) {
            Sum wanted{};
            for (std::size_t k = 0; k < side; ++k) {
                wanted += static_cast<Sum>(left[row * side + k]) * static_cast<Sum>(right[k * side + column]);
            }
            wrong += product.at(row, column) != wanted;  // whole numbers: exact in float32 too
        }
    }
    CHECK_MESSAGE(wrong == 0, kernel.name);
}

}  // namespace

TEST_CASE("every kernel that this processor has gives the product of the matrices, on any number of threads") {
    for (const int threads : {1, 3}) {
        check_product(float_kernel(), 64, 1, threads);
        check_product(float_kernel(), 320, 53, threads);  // more than what is taken at once
        for (const auto& kernel : byte_kernels()) {
            check_product(kernel, 64, 1, threads);
            check_product(kernel, 320, 53, threads);
        }
    }
}

TEST_CASE("a peak says what was reached, and by which loops") {
    const auto one = measure_peak(1, true);
    for (const char* field : {"float32_operations_per_second", "int8_operations_per_second", "copied_bytes_per_second",
                              "cached_bytes_per_second"}) {
        CHECK_MESSAGE(one[field].get<double>() > 0, field);
    }
    CHECK(one["side"].get<int>() % 64 == 0);
    CHECK(one["engine"].get<std::string>().find(std::string("int8 by ") + byte_kernel().name) != std::string::npos);
    CHECK_FALSE(measure_peak(2, true).contains("cached_bytes_per_second"));
}
