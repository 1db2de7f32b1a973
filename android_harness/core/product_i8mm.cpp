// Compiled for processors that multiply small matrices of bytes (ARMv8.6's i8mm); called on those alone.
#include "product.hpp"

#include <arm_neon.h>

namespace bench {
namespace {

constexpr std::size_t kPairs = kTile / 2;

void add_bytes(const std::int8_t* rows, const std::int8_t* columns, std::size_t depth, std::int32_t* sums) {
    int32x4_t sum[kPairs][kPairs];  // each 2 by 2
    for (std::size_t row = 0; row < kPairs; ++row) {
        for (std::size_t column = 0; column < kPairs; ++column) sum[row][column] = vld1q_s32(sums + 4 * (row * kPairs + column));
    }
    for (std::size_t k = 0; k < depth; k += 8, rows += 8 * kTile, columns += 8 * kTile) {
        int8x16_t left[kPairs];
        for (std::size_t row = 0; row < kPairs; ++row) left[row] = vld1q_s8(rows + 16 * row);
        for (std::size_t column = 0; column < kPairs; ++column) {
            const int8x16_t right = vld1q_s8(columns + 16 * column);
            for (std::size_t row = 0; row < kPairs; ++row) sum[row][column] = vmmlaq_s32(sum[row][column], left[row], right);
        }
    }
    for (std::size_t row = 0; row < kPairs; ++row) {
        for (std::size_t column = 0; column < kPairs; ++column) vst1q_s32(sums + 4 * (row * kPairs + column), sum[row][column]);
    }
}

std::size_t pair_by_pair(std::size_t row, std::size_t column) {
    return 4 * (row / 2 * kPairs + column / 2) + 2 * (row % 2) + column % 2;
}

}  // namespace

ByteKernel matrix_kernel() { return {"i8mm", 8, add_bytes, pair_by_pair}; }

}  // namespace bench
