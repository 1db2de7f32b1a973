#include "product.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#ifdef __aarch64__
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

namespace bench {
namespace {

constexpr std::size_t kRowsAtOnce = 64;  // of the left matrix: with kDepthAtOnce they stay in the second cache
constexpr std::size_t kDepthAtOnce = 256;

std::size_t row_by_row(std::size_t row, std::size_t column) { return row * kTile + column; }

template <class Number, class Sum>
[[maybe_unused]] void add_plainly(const Number* rows, const Number* columns, std::size_t depth, Sum* sums) {
    for (std::size_t k = 0; k < depth; ++k) {
        for (std::size_t row = 0; row < kTile; ++row) {
            for (std::size_t column = 0; column < kTile; ++column) {
                sums[row * kTile + column] += static_cast<Sum>(rows[k * kTile + row]) * static_cast<Sum>(columns[k * kTile + column]);
            }
        }
    }
}

#ifdef __aarch64__
void add_floats(const float* rows, const float* columns, std::size_t depth, float* sums) {
    float32x4_t sum[kTile][2];
    for (std::size_t row = 0; row < kTile; ++row) {
        for (std::size_t half = 0; half < 2; ++half) sum[row][half] = vld1q_f32(sums + row * kTile + 4 * half);
    }
    for (std::size_t k = 0; k < depth; ++k, rows += kTile, columns += kTile) {
        const float32x4_t upper = vld1q_f32(rows), lower = vld1q_f32(rows + 4);
        for (std::size_t half = 0; half < 2; ++half) {
            const float32x4_t right = vld1q_f32(columns + 4 * half);
            sum[0][half] = vfmaq_laneq_f32(sum[0][half], right, upper, 0);
            sum[1][half] = vfmaq_laneq_f32(sum[1][half], right, upper, 1);
            sum[2][half] = vfmaq_laneq_f32(sum[2][half], right, upper, 2);
            sum[3][half] = vfmaq_laneq_f32(sum[3][half], right, upper, 3);
            sum[4][half] = vfmaq_laneq_f32(sum[4][half], right, lower, 0);
            sum[5][half] = vfmaq_laneq_f32(sum[5][half], right, lower, 1);
            sum[6][half] = vfmaq_laneq_f32(sum[6][half], right, lower, 2);
            sum[7][half] = vfmaq_laneq_f32(sum[7][half], right, lower, 3);
        }
    }
    for (std::size_t row = 0; row < kTile; ++row) {
        for (std::size_t half = 0; half < 2; ++half) vst1q_f32(sums + row * kTile + 4 * half, sum[row][half]);
    }
}
#endif

// Strips of 8 rows, or columns where `transposed`: in each, `together` numbers of every row by turns.
template <class Number>
void pack(const Number* from, std::size_t side, bool transposed, std::size_t together, std::size_t strips, Number* into) {
    for (std::size_t strip = 0; strip < strips; ++strip) {
        for (std::size_t k = 0; k < side; k += together) {
            for (std::size_t line = strip * kTile; line < (strip + 1) * kTile; ++line) {
                for (std::size_t next = k; next < k + together; ++next) {
                    *into++ = transposed ? from[next * side + line] : from[line * side + next];
                }
            }
        }
    }
}

}  // namespace

FloatKernel float_kernel() {
#ifdef __aarch64__
    return {"NEON", 1, add_floats, row_by_row};
#else
    return {"plain loops", 1, add_plainly<float, float>, row_by_row};
#endif
}

std::vector<ByteKernel> byte_kernels() {
    std::vector<ByteKernel> found{{"plain loops", 1, add_plainly<std::int8_t, std::int32_t>, row_by_row}};
#ifdef __aarch64__
    constexpr unsigned long kDotProduct = 1UL << 20, kMatrix = 1UL << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM
    if (getauxval(AT_HWCAP) & kDotProduct) found.push_back(dot_product_kernel());
    if (getauxval(AT_HWCAP2) & kMatrix) found.push_back(matrix_kernel());
#endif
    return found;
}

ByteKernel byte_kernel() { return byte_kernels().back(); }

template <class Number, class Sum>
Product<Number, Sum>::Product(Kernel<Number, Sum> kernel, std::vector<Number> left, const std::vector<Number>& right,
                              std::size_t side)
    : kernel_(kernel),
      side_(side),
      left_(std::move(left)),
      packed_left_(side * side),
      packed_right_(side * side),
      sums_(side * side) {
    pack(right.data(), side, true, kernel.together, side / kTile, packed_right_.data());
}

template <class Number, class Sum>
void Product<Number, Sum>::rows_from(std::size_t first) {
    const auto strip = kTile * side_;
    pack(left_.data() + first * side_, side_, false, kernel_.together, kRowsAtOnce / kTile, packed_left_.data() + first * side_);
    std::fill_n(sums_.begin() + static_cast<std::ptrdiff_t>(first * side_), kRowsAtOnce * side_, Sum{});
    for (std::size_t k = 0; k < side_; k += kDepthAtOnce) {
        const auto depth = std::min(kDepthAtOnce, side_ - k);
        for (std::size_t column = 0; column < side_ / kTile; ++column) {
            for (std::size_t row = first / kTile; row < (first + kRowsAtOnce) / kTile; ++row) {
                kernel_.add(packed_left_.data() + row * strip + k * kTile, packed_right_.data() + column * strip + k * kTile,
                            depth, sums_.data() + (row * (side_ / kTile) + column) * kTile * kTile);
            }
        }
    }
}

template <class Number, class Sum>
void Product<Number, Sum>::run(int threads) {
    // By turns: cores of several kinds would wait for the slowest otherwise.
    std::atomic<std::size_t> next{0};
    const auto work = [this, &next] {
        for (std::size_t row; (row = next.fetch_add(kRowsAtOnce)) < side_;) rows_from(row);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
    work();
    for (auto& one : others) one.join();
}

template <class Number, class Sum>
Sum Product<Number, Sum>::at(std::size_t row, std::size_t column) const {
    const auto tile = row / kTile * (side_ / kTile) + column / kTile;
    return sums_[tile * kTile * kTile + kernel_.place(row % kTile, column % kTile)];
}

template class Product<float, float>;
template class Product<std::int8_t, std::int32_t>;

}  // namespace bench
