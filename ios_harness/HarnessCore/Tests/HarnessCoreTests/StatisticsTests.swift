import XCTest

@testable import HarnessCore

/// The vectors that every language shares.
final class StatisticsTests: XCTestCase {
    private struct Vectors: Decodable {
        struct Vector: Decodable {
            let name: String
            let roundsNs: [[Int]]
            let cpuNs: [Int?]
            let trimFraction: Double
            let summary: Summary

            enum CodingKeys: String, CodingKey {
                case name, summary
                case roundsNs = "rounds_ns"
                case cpuNs = "cpu_ns"
                case trimFraction = "trim_fraction"
            }
        }
        let vectors: [Vector]
    }

    private var root: URL {
        var url = URL(fileURLWithPath: #filePath)
        for _ in 0..<5 { url.deleteLastPathComponent() }
        return url
    }

    func testTheSharedVectorsHold() throws {
        let file = root.appendingPathComponent("tests/benchmark/statistics_vectors.json")
        let vectors = try JSONDecoder().decode(Vectors.self, from: Data(contentsOf: file)).vectors
        XCTAssertFalse(vectors.isEmpty)
        for vector in vectors {
            let found = try Statistics.summarize(rounds: vector.roundsNs, cpu: vector.cpuNs, trimFraction: vector.trimFraction)
            compare(found, vector.summary, vector.name)
        }
    }

    private func compare(_ found: Summary, _ wanted: Summary, _ name: String) {
        XCTAssertEqual(found.samples, wanted.samples, name)
        XCTAssertEqual(found.minimumNs, wanted.minimumNs, name)
        XCTAssertEqual(found.maximumNs, wanted.maximumNs, name)
        let figures: [KeyPath<Summary, Double>] = [
            \.medianNs, \.p90Ns, \.p99Ns, \.meanNs, \.trimmedMeanNs, \.medianIntervalNs.low, \.medianIntervalNs.high,
        ]
        for figure in figures {
            XCTAssertEqual(found[keyPath: figure], wanted[keyPath: figure], accuracy: 1e-9 * wanted[keyPath: figure], name)
        }
        for figure in [\Summary.lastOverFirst, \.cpuNs] {
            let (value, expected) = (found[keyPath: figure], wanted[keyPath: figure])
            XCTAssertEqual(value == nil, expected == nil, name)
            XCTAssertEqual(value ?? 0, expected ?? 0, accuracy: 1e-9 * (expected ?? 1), name)
        }
    }

    func testARoundWithoutSamplesIsRefused() {
        XCTAssertThrowsError(try Statistics.summarize(rounds: [[1], []], cpu: [nil, nil], trimFraction: 0.1))
    }
}
