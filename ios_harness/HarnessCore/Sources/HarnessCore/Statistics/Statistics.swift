import Foundation

/// The summary of a cell's samples, as docs/benchmark.md defines it: the same figures in Python, C++ and Swift.
public enum Statistics {
    static let resamples = 1000
    static let largestResample = 4096

    /// - Parameters:
    ///   - rounds: wall nanoseconds of each round, in the order they were taken; none is empty.
    ///   - cpu: CPU nanoseconds of each round.
    ///   - trimFraction: of a round's samples, dropped at each end for the trimmed mean.
    /// - Throws: `HarnessError` where there is no sample, or a round has none.
    public static func summarize(rounds: [[Int]], cpu: [Int?], trimFraction: Double) throws -> Summary {
        guard !rounds.isEmpty, rounds.allSatisfy({ !$0.isEmpty }) else {
            throw HarnessError("a round without samples cannot be summarized")
        }
        let samples = rounds.flatMap { $0 }
        let ordered = samples.sorted().map(Double.init)
        let known = cpu.compactMap { $0 }
        return Summary(
            samples: samples.count,
            medianNs: percentile(ordered, 0.5),
            p90Ns: percentile(ordered, 0.9),
            p99Ns: percentile(ordered, 0.99),
            meanNs: Double(samples.reduce(0, +)) / Double(samples.count),
            trimmedMeanNs: trimmedMean(rounds, trimFraction),
            minimumNs: samples.min()!,
            maximumNs: samples.max()!,
            lastOverFirst: trend(samples),
            medianIntervalNs: medianInterval(samples),
            cpuNs: known.count == rounds.count ? Double(known.reduce(0, +)) / Double(samples.count) : nil
        )
    }

    /// Percentile `q` in [0, 1] of sorted samples, interpolated linearly at position q (n - 1).
    static func percentile(_ ordered: [Double], _ q: Double) -> Double {
        let position = q * Double(ordered.count - 1)
        let below = Int(position)
        let above = min(below + 1, ordered.count - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (position - Double(below))
    }

    /// Mean of what is left when `floor(fraction * count)` samples of each round are dropped at both ends.
    static func trimmedMean(_ rounds: [[Int]], _ fraction: Double) -> Double {
        let kept = rounds.flatMap { samples in
            let dropped = Int(fraction * Double(samples.count))
            return samples.sorted()[dropped..<samples.count - dropped]
        }
        return Double(kept.reduce(0, +)) / Double(kept.count)
    }

    /// Median of the last quarter over that of the first; nil below 8 samples, or of a first quarter of zeros.
    static func trend(_ samples: [Int]) -> Double? {
        let quarter = samples.count / 4
        guard quarter >= 2 else { return nil }
        let first = percentile(samples.prefix(quarter).sorted().map(Double.init), 0.5)
        let last = percentile(samples.suffix(quarter).sorted().map(Double.init), 0.5)
        return first == 0 ? nil : last / first
    }

    /// 95% percentile bootstrap interval of the median, from a fixed stream of SplitMix64.
    static func medianInterval(_ samples: [Int]) -> Interval {
        var values = samples.map(Double.init)
        if values.count > largestResample {
            values = (0..<largestResample).map { values[$0 * samples.count / largestResample] }
        }
        // Ranks instead of values: a histogram of the drawn ranks gives a resample's median without sorting it.
        let ordered = values.sorted()
        let rank = ranks(of: values)
        var histogram = [Int32](repeating: 0, count: values.count)
        let medians = (0..<resamples).map { number -> Double in
            histogram.withUnsafeMutableBufferPointer { $0.update(repeating: 0) }
            for draw in number * values.count..<(number + 1) * values.count {
                histogram[rank[drawn(draw, below: values.count)]] += 1
            }
            return median(of: histogram, ordered)
        }
        let sorted = medians.sorted()
        return Interval(low: percentile(sorted, 0.025), high: percentile(sorted, 0.975))
    }

    /// Draw number `index` of all: SplitMix64's output number `index` from seed 0, below `count`.
    static func drawn(_ index: Int, below count: Int) -> Int {
        var z = UInt64(index + 1) &* 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        z ^= z >> 31
        return Int((z >> 11) % UInt64(count))
    }

    private static func ranks(of values: [Double]) -> [Int] {
        var rank = [Int](repeating: 0, count: values.count)
        for (place, index) in values.indices.sorted(by: { values[$0] < values[$1] }).enumerated() { rank[index] = place }
        return rank
    }

    private static func median(of histogram: [Int32], _ ordered: [Double]) -> Double {
        let count = ordered.count
        let (lower, upper) = ((count - 1) / 2, count / 2)
        var seen = 0
        var low: Double?
        for (place, times) in histogram.enumerated() {
            seen += Int(times)
            if low == nil, seen > lower { low = ordered[place] }
            if seen > upper { return (low! + ordered[place]) / 2 }
        }
        preconditionFailure("a resample holds as many values as there are")
    }
}
