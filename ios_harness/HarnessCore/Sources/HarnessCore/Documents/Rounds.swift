import Foundation

// One line of <run_id>.rounds.jsonl, and what it is made of. The schema is RoundResult of benchmark-result.json.

public enum ThermalState: String, Codable, Sendable { case nominal, fair, serious, critical }

/// Worst over `inputs` golden inputs. `relative` is nil where the outputs hold infinity or NaN; `cosine` is -1 then.
public struct GoldenOutcome: Codable, Equatable, Sendable {
    public var inputs: Int
    public var cosine: Double
    public var relative: Double?
    public var passed: Bool

    enum CodingKeys: String, CodingKey, CaseIterable { case inputs, cosine, relative, passed }

    public init(inputs: Int, cosine: Double, relative: Double?, passed: Bool) {
        self.inputs = inputs
        self.cosine = cosine
        self.relative = relative
        self.passed = passed
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        inputs = try fields.count(.inputs)
        cosine = try fields.required(.cosine)
        relative = try fields.optional(.relative)
        passed = try fields.required(.passed)
    }
}

/// How many operations a runtime means to run on a compute unit, and their share of the predicted cost.
public struct Placement: Codable, Equatable, Sendable {
    public var unit: String
    public var operations: Int
    public var costShare: Double?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case unit, operations
        case costShare = "cost_share"
    }

    public init(unit: String, operations: Int, costShare: Double?) {
        self.unit = unit
        self.operations = operations
        self.costShare = costShare
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        unit = try fields.required(.unit)
        operations = try fields.count(.operations)
        costShare = try fields.optional(.costShare)
    }
}

/// What the operators of one type took in a profiled inference. This harness writes none; it reads and keeps them.
public struct OperatorTime: Codable, Equatable, Sendable {
    public var name: String
    public var calls: Int
    public var totalNs: Int

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name = "operator"
        case calls
        case totalNs = "total_ns"
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        name = try fields.required(.name)
        calls = try fields.count(.calls)
        totalNs = try fields.count(.totalNs)
    }
}

/// One finished round of one cell. All times are wall nanoseconds, `cpuNs` CPU nanoseconds of all threads.
public struct RoundResult: Codable, Equatable, Sendable {
    public enum Status: String, Codable, Sendable { case done, failed, invalid }

    public var runId: String
    public var cell: String
    public var round: Int
    public var status: Status
    public var error: String?
    public var loadFirstNs: Int?
    public var loadAgainNs: Int?
    public var firstInferenceNs: Int?
    public var samplesNs: [Int] = []
    public var cpuNs: Int?
    public var peakMemoryBytes: Int?
    public var thermalState: ThermalState?
    public var golden: GoldenOutcome?
    public var placement: [Placement] = []
    public var profile: [OperatorTime] = []
    public var warnings: [String] = []

    enum CodingKeys: String, CodingKey, CaseIterable {
        case runId = "run_id"
        case cell, round, status, error
        case loadFirstNs = "load_first_ns"
        case loadAgainNs = "load_again_ns"
        case firstInferenceNs = "first_inference_ns"
        case samplesNs = "samples_ns"
        case cpuNs = "cpu_ns"
        case peakMemoryBytes = "peak_memory_bytes"
        case thermalState = "thermal_state"
        case golden, placement, profile, warnings
    }

    public init(runId: String, turn: Turn, status: Status = .done) {
        self.runId = runId
        cell = turn.cell
        round = turn.round
        self.status = status
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        runId = try fields.text(.runId, .identifier)
        cell = try fields.text(.cell, .identifier)
        round = try fields.count(.round)
        status = try fields.required(.status)
        error = try fields.optional(.error)
        loadFirstNs = try fields.optionalCount(.loadFirstNs)
        loadAgainNs = try fields.optionalCount(.loadAgainNs)
        firstInferenceNs = try fields.optionalCount(.firstInferenceNs)
        samplesNs = try fields.defaultedCounts(.samplesNs)
        cpuNs = try fields.optionalCount(.cpuNs)
        peakMemoryBytes = try fields.optionalCount(.peakMemoryBytes)
        thermalState = try fields.optional(.thermalState)
        golden = try fields.optional(.golden)
        placement = try fields.defaulted(.placement, to: [])
        profile = try fields.defaulted(.profile, to: [])
        warnings = try fields.defaulted(.warnings, to: [])
    }

    public var turn: Turn { Turn(cell: cell, round: round) }
}
