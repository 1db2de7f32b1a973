import Foundation

// job.json. docs/measuring.md has the meaning of each field; the schema is docs/schemas/benchmark-job.json.

public enum Dtype: String, Codable, Sendable {
    case float32, float16, uint8, int32, int64

    /// Bytes of one element.
    public var size: Int {
        switch self {
        case .uint8: return 1
        case .float16: return 2
        case .float32, .int32: return 4
        case .int64: return 8
        }
    }
}

public enum Tower: String, Codable, Sendable { case image, text }

/// `cpuOnly` is Core ML's and Core AI's; Core ML has the rest of the first line, Core AI that of the second.
public enum ComputeUnits: String, Codable, Sendable {
    case cpuOnly, cpuAndGPU, cpuAndNeuralEngine, all
    case `default`, preferCPU, preferGPU, preferNeuralEngine
}

public struct MeasurementProtocol: Codable, Equatable, Sendable {
    public enum Statistic: String, Codable, Sendable {
        case median, p90
        case trimmedMean = "trimmed_mean"
    }

    public var name: String
    public var warmUpIterations: Int
    public var rounds: Int
    public var iterationsPerRound: Int
    public var secondsPerRound: Double
    public var reloadEachRound: Bool
    public var trimFraction: Double
    public var statistic: Statistic
    /// Maximum number to check; 0, and absent, is all.
    public var goldenInputs: Int?
    /// Wait before a round until the device is cool, at most so long; absent is 0.
    public var coolSeconds: Double?
    /// Begin an inference this often; 0, and absent, is one right after the other.
    public var paceMilliseconds: Double?
}

/// An input or output as the runtime takes it: batch 1, no free dimension.
public struct Tensor: Codable, Equatable, Sendable {
    public var name: String
    public var dtype: Dtype
    public var shape: [Int]
}

/// A raw little-endian row-major file; the first dimension of `shape` counts the examples.
public struct RawTensor: Codable, Equatable, Sendable {
    public var file: String
    public var sha256: String
    public var dtype: Dtype
    public var shape: [Int]
}

public struct Golden: Codable, Equatable, Sendable {
    public var inputs: RawTensor
    /// Of jobs of earlier versions.
    public var outputs: RawTensor?
}

/// What answers must hold.
public struct Gate: Codable, Equatable, Sendable {
    public enum Metric: String, Codable, Sendable { case cosine, relative, probabilities }

    public var metric: Metric
    public var bound: Double
    public var snrDb: Double?
}

/// What the file scored when it was exported, in percent, and on what.
public struct Accuracy: Codable, Equatable, Sendable {
    public var metric: String
    public var dataset: String
    public var percent: Double
}

/// One thing to time.
public struct Cell: Codable, Equatable, Sendable {
    public var id: String
    public var label: String
    public var competitor: Bool
    public var bundle: String?
    public var variant: String?
    public var tower: Tower
    public var target: String?
    public var precision: String?
    public var accuracy: Accuracy?
    public var file: String
    public var sha256: String
    public var bytes: Int
    public var runtime: String
    public var backend: String?
    public var computeUnits: ComputeUnits?
    public var threads: Int
    public var options: [String: String]?
    public var input: Tensor
    public var output: Tensor
    public var golden: Golden?
    public var gate: Gate?
    /// Of a tower that takes pictures of any size: what its export found.
    public var resizing: String?
}

/// One round of one cell; `round` counts from 0.
public struct Turn: Codable, Hashable, Sendable {
    public var cell: String
    public var round: Int

    public init(cell: String, round: Int) {
        self.cell = cell
        self.round = round
    }
}

/// The whole plan: what to measure, and in which order.
public struct Job: Codable, Equatable, Sendable {
    public var schemaVersion: Int
    public var runId: String
    public var seed: Int
    public var `protocol`: MeasurementProtocol
    public var cells: [Cell]
    public var order: [Turn]

    public func cell(_ id: String) -> Cell? { cells.first { $0.id == id } }
}
