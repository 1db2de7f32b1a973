import Foundation

#if canImport(Accelerate)
import Accelerate
#endif

/// The limit of these cores: what a product of two large matrices and copies of memory reach on them.
enum CoreLimit {
    private static let copied = 64 << 20  // more than the last cache of most processors has
    private static let cached = 128 << 10, copies = 64  // with their copy, what the second cache of most holds

    #if canImport(Accelerate)
    private static let sides = (whole: 1024, short: 256)
    private static let engine = "Accelerate's cblas_sgemm, on as many threads as it takes"
    #else
    private static let sides = (whole: 64, short: 64)
    private static let engine = "plain loops, in the place of Accelerate"
    #endif

    /// The fastest of five, by the clock: Accelerate takes the threads that it likes, and one thread copies. `threads`: of
    /// the cells that are held against it. `isShort`: a smaller product, and everything once.
    static func measure(threads: Int, isShort: Bool) -> Peak {
        let repeats = isShort ? 1 : 5, side = isShort ? sides.short : sides.whole
        return Peak(
            engine: engine, threads: threads, side: side,
            float32OperationsPerSecond: product(side: side, repeats), int8OperationsPerSecond: nil,
            copiedBytesPerSecond: copy(bytes: copied, times: 1, repeats),
            cachedBytesPerSecond: threads == 1 ? copy(bytes: cached, times: copies, repeats) : nil)
    }

    /// Seconds, the least of several, after one that does not count.
    private static func fastest(_ repeats: Int, _ work: () -> Void) -> Double {
        work()
        let found = (0..<repeats).map { _ in Clock.timed(work).1 }
        return Double(max(found.min()!, 1)) / 1e9
    }

    /// Multiplications and additions a second.
    private static func product(side: Int, _ repeats: Int) -> Double {
        let left = (0..<side * side).map { Float($0 % 255) / 255 }, right = left.reversed() as [Float]
        var sums = [Float](repeating: 0, count: side * side)
        let seconds = fastest(repeats) {
            left.withUnsafeBufferPointer { left in
                right.withUnsafeBufferPointer { right in
                    sums.withUnsafeMutableBufferPointer { multiply(left.baseAddress!, right.baseAddress!, $0.baseAddress!, side) }
                }
            }
        }
        return 2 * pow(Double(side), 3) / seconds
    }

    private static func multiply(
        _ left: UnsafePointer<Float>, _ right: UnsafePointer<Float>, _ sums: UnsafeMutablePointer<Float>, _ side: Int
    ) {
        #if canImport(Accelerate)
        let count = Int32(side)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count, count, count, 1, left, count, right, count, 0, sums, count)
        #else
        for row in 0..<side {
            for column in 0..<side {
                var sum: Float = 0
                for k in 0..<side { sum += left[row * side + k] * right[k * side + column] }
                sums[row * side + column] = sum
            }
        }
        #endif
    }

    /// Bytes a second that copies read and write.
    private static func copy(bytes: Int, times: Int, _ repeats: Int) -> Double {
        let source = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        let destination = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        defer { [source, destination].forEach { $0.deallocate() } }
        memset(source, 1, bytes)
        // To and fro: of copies that nobody reads the compiler may leave out all but one.
        let seconds = fastest(repeats) {
            for i in 0..<times { _ = i % 2 == 0 ? memcpy(destination, source, bytes) : memcpy(source, destination, bytes) }
        }
        return 2 * Double(bytes * times) / seconds
    }
}
