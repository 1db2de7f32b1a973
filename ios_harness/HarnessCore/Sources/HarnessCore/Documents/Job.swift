import Foundation

// job.json. What each field means stands in docs/benchmark.md; the schema is docs/schemas/benchmark-job.json.

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

public enum ComputeUnits: String, Codable, Sendable { case cpuOnly, cpuAndGPU, cpuAndNeuralEngine, all }

public enum RuntimeName: String, Codable, Sendable { case onnxruntime, executorch, coreml, torch }

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
    /// Check at most so many; 0 is all.
    public var goldenInputs: Int

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name
        case warmUpIterations = "warm_up_iterations"
        case rounds
        case iterationsPerRound = "iterations_per_round"
        case secondsPerRound = "seconds_per_round"
        case reloadEachRound = "reload_each_round"
        case trimFraction = "trim_fraction"
        case statistic
        case goldenInputs = "golden_inputs"
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        name = try fields.text(.name, .identifier)
        warmUpIterations = try fields.count(.warmUpIterations)
        rounds = try fields.count(.rounds, in: 1...largestCount)
        iterationsPerRound = try fields.count(.iterationsPerRound, in: 1...largestCount)
        secondsPerRound = try fields.number(.secondsPerRound, "at least 0") { $0 >= 0 }
        reloadEachRound = try fields.required(.reloadEachRound)
        trimFraction = try fields.number(.trimFraction, "in [0, 0.5)") { $0 >= 0 && $0 < 0.5 }
        statistic = try fields.required(.statistic)
        goldenInputs = try fields.defaulted(.goldenInputs, to: 0)
        _ = try fields.ensure(anyCount.contains(goldenInputs), goldenInputs, .goldenInputs, "must not be negative")
    }
}

/// An input or output as the runtime takes it: batch 1, no free dimension.
public struct Tensor: Codable, Equatable, Sendable {
    public var name: String
    public var dtype: Dtype
    public var shape: [Int]

    enum CodingKeys: String, CodingKey, CaseIterable { case name, dtype, shape }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        name = try fields.required(.name)
        dtype = try fields.required(.dtype)
        shape = try fields.counts(.shape, from: 1)
    }
}

/// A raw little-endian row-major file; the first dimension of `shape` counts the examples.
public struct TensorFile: Codable, Equatable, Sendable {
    public var file: String
    public var sha256: String
    public var dtype: Dtype
    public var shape: [Int]

    enum CodingKeys: String, CodingKey, CaseIterable { case file, sha256, dtype, shape }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        file = try fields.text(.file, .path)
        sha256 = try fields.text(.sha256, .sha256)
        dtype = try fields.required(.dtype)
        shape = try fields.counts(.shape, from: 1)
    }
}

public struct Golden: Codable, Equatable, Sendable {
    public var inputs: TensorFile
    public var outputs: TensorFile

    enum CodingKeys: String, CodingKey, CaseIterable { case inputs, outputs }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        inputs = try fields.required(.inputs)
        outputs = try fields.required(.outputs)
    }
}

public struct Gate: Codable, Equatable, Sendable {
    public enum Metric: String, Codable, Sendable { case cosine, relative }

    public var metric: Metric
    public var bound: Double

    enum CodingKeys: String, CodingKey, CaseIterable { case metric, bound }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        metric = try fields.required(.metric)
        bound = try fields.required(.bound)
    }
}

/// What the file scored when it was exported, in percent, and on what.
public struct Accuracy: Codable, Equatable, Sendable {
    public var metric: String
    public var dataset: String
    public var percent: Double

    enum CodingKeys: String, CodingKey, CaseIterable { case metric, dataset, percent }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        metric = try fields.required(.metric)
        dataset = try fields.required(.dataset)
        percent = try fields.required(.percent)
    }
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
    public var runtime: RuntimeName
    public var backend: String?
    public var computeUnits: ComputeUnits?
    public var threads: Int
    public var options: [String: String]
    public var input: Tensor
    public var output: Tensor
    public var golden: Golden?
    public var gate: Gate?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case id, label, competitor, bundle, variant, tower, target, precision, accuracy, file, sha256, bytes, runtime
        case backend
        case computeUnits = "compute_units"
        case threads, options, input, output, golden, gate
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        id = try fields.text(.id, .identifier)
        label = try fields.required(.label)
        competitor = try fields.required(.competitor)
        bundle = try fields.optional(.bundle)
        variant = try fields.optional(.variant)
        tower = try fields.required(.tower)
        target = try fields.optional(.target)
        precision = try fields.optional(.precision)
        accuracy = try fields.optional(.accuracy)
        file = try fields.text(.file, .path)
        sha256 = try fields.text(.sha256, .sha256)
        bytes = try fields.count(.bytes)
        runtime = try fields.required(.runtime)
        backend = try fields.optional(.backend)
        computeUnits = try fields.optional(.computeUnits)
        threads = try fields.count(.threads, in: 1...1024)
        options = try fields.defaulted(.options, to: [:])
        input = try fields.required(.input)
        output = try fields.required(.output)
        golden = try fields.optional(.golden)
        gate = try fields.optional(.gate)
        _ = try fields.ensure((golden == nil) == (gate == nil), (), .gate, "and golden come together")
    }
}

/// One round of one cell; `round` counts from 0.
public struct Turn: Codable, Hashable, Sendable {
    public var cell: String
    public var round: Int

    enum CodingKeys: String, CodingKey, CaseIterable { case cell, round }

    public init(cell: String, round: Int) {
        self.cell = cell
        self.round = round
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        cell = try fields.text(.cell, .identifier)
        round = try fields.count(.round)
    }
}

/// The whole plan: what to measure, and in which order.
public struct Job: Codable, Equatable, Sendable {
    public var schemaVersion: Int
    public var runId: String
    public var seed: Int
    public var measurement: MeasurementProtocol
    public var cells: [Cell]
    public var order: [Turn]

    enum CodingKeys: String, CodingKey, CaseIterable {
        case schemaVersion = "schema_version"
        case runId = "run_id"
        case seed
        case measurement = "protocol"
        case cells, order
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        schemaVersion = try fields.count(.schemaVersion, in: 1...1)
        runId = try fields.text(.runId, .identifier)
        seed = try fields.count(.seed)
        measurement = try fields.required(.measurement)
        cells = try fields.required(.cells)
        order = try fields.required(.order)
        let ids = Set(cells.map(\.id))
        _ = try fields.ensure(!cells.isEmpty && ids.count == cells.count, (), .cells, "must be of different ids, one at least")
        let turns = Set(order)
        let (count, tooMany) = cells.count.multipliedReportingOverflow(by: measurement.rounds)
        let whole = !tooMany && order.count == turns.count && order.count == count
            && turns.allSatisfy { ids.contains($0.cell) && $0.round < measurement.rounds }
        _ = try fields.ensure(whole, (), .order, "must hold every round of every cell once")
    }

    public func cell(_ id: String) -> Cell? { cells.first { $0.id == id } }
}
