// Products of two square matrices in tiles of 8 by 8, as fast as a loop without a library gets: what a core can.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bench {

constexpr std::size_t kTile = 8;

// Adds the product of 8 rows and 8 columns to 64 sums. Both stand packed: `together` numbers of one row after the other.
template <class Number, class Sum>
struct Kernel {
    const char* name;
    std::size_t together;
    void (*add)(const Number* rows, const Number* columns, std::size_t depth, Sum* sums);
    std::size_t (*place)(std::size_t row, std::size_t column);  // of a sum among the 64
};

using FloatKernel = Kernel<float, float>;
using ByteKernel = Kernel<std::int8_t, std::int32_t>;

// The fastest that this processor has: NEON, and for bytes its matrix (i8mm) or dot product instructions where there are
// some; elsewhere loops that the compiler makes of them what it can.
FloatKernel float_kernel();
ByteKernel byte_kernel();

// All that this processor has, for tests.
std::vector<ByteKernel> byte_kernels();

// One in each file that is compiled for instructions that not every processor has.
ByteKernel dot_product_kernel();
ByteKernel matrix_kernel();

// Left times right of `side` * `side` numbers each, row-major; the right one is packed once, as weights are. `side` is a
// multiple of 64.
template <class Number, class Sum>
class Product {
  public:
    Product(Kernel<Number, Sum> kernel, std::vector<Number> left, const std::vector<Number>& right, std::size_t side);

    // Computes it all, on so many threads.
    void run(int threads);

    Sum at(std::size_t row, std::size_t column) const;

  private:
    void rows_from(std::size_t first);

    Kernel<Number, Sum> kernel_;
    std::size_t side_;
    std::vector<Number> left_, packed_left_, packed_right_;
    std::vector<Sum> sums_;  // tile by tile
};

extern template class Product<float, float>;
extern template class Product<std::int8_t, std::int32_t>;

}  // namespace bench
