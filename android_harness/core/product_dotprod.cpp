// Compiled for processors with dot products of bytes (ARMv8.2's dotprod); called on those alone.
#include "product.hpp"

#include <arm_neon.h>

namespace bench {
namespace {

void add_bytes(const std::int8_t* rows, const std::int8_t* columns, std::size_t depth, std::int32_t* sums) {
    int32x4_t sum[kTile][2];
    for (std::size_t row = 0; row < kTile; ++row) {
        for (std::size_t half = 0; half < 2; ++half) sum[row][half] = vld1q_s32(sums + row * kTile + 4 * half);
    }
    for (std::size_t k = 0; k < depth; k += 4, rows += 4 * kTile, columns += 4 * kTile) {
        const int8x16_t upper = vld1q_s8(rows), lower = vld1q_s8(rows + 16);
        for (std::size_t half = 0; half < 2; ++half) {
            const int8x16_t right = vld1q_s8(columns + 16 * half);
            sum[0][half] = vdotq_laneq_s32(sum[0][half], right, upper, 0);
            sum[1][half] = vdotq_laneq_s32(sum[1][half], right, upper, 1);
            sum[2][half] = vdotq_laneq_s32(sum[2][half], right, upper, 2);
            sum[3][half] = vdotq_laneq_s32(sum[3][half], right, upper, 3);
            sum[4][half] = vdotq_laneq_s32(sum[4][half], right, lower, 0);
            sum[5][half] = vdotq_laneq_s32(sum[5][half], right, lower, 1);
            sum[6][half] = vdotq_laneq_s32(sum[6][half], right, lower, 2);
            sum[7][half] = vdotq_laneq_s32(sum[7][half], right, lower, 3);
        }
    }
    for (std::size_t row = 0; row < kTile; ++row) {
        for (std::size_t half = 0; half < 2; ++half) vst1q_s32(sums + row * kTile + 4 * half, sum[row][half]);
    }
}

}  // namespace

ByteKernel dot_product_kernel() {
    return {"dotprod", 4, add_bytes, [](std::size_t row, std::size_t column) { return row * kTile + column; }};
}

}  // namespace bench
