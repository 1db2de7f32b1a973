import Foundation

// One line of <run_id>.rounds.jsonl, and what it is made of. The schema is RoundResult of benchmark-run.json.

public enum ThermalState: String, Codable, Sendable { case nominal, fair, serious, critical }

/// What answers were worth, as the computer that sent the job found. This harness writes none; it reads and keeps them.
public struct GoldenOutcome: Codable, Equatable, Sendable {
    public var inputs: Int
    public var cosine: Double
    public var relative: Double?
    public var passed: Bool
}

/// How many operations a runtime means to run on a compute unit, and their share of the predicted cost.
public struct Placement: Codable, Equatable, Sendable {
    public var unit: String
    public var operations: Int
    public var costShare: Double?
}

/// What the calls of an operator compute and move together; what is multiplied is nil where nothing is.
public struct OperatorWork: Codable, Equatable, Sendable {
    public enum Arithmetic: String, Codable, Sendable { case float32, float16, int8 }

    public var arithmeticOperations: Int
    public var movedBytes: Int
    public var kind: String?
    public var arithmetic: Arithmetic?
}

/// What the operators of one type took in a profiled inference. This harness writes none; it reads and keeps them.
public struct OperatorTime: Codable, Equatable, Sendable {
    public var `operator`: String
    public var calls: Int
    public var totalNs: Int
    public var work: OperatorWork?
}

/// One operation, by the name of its output, and the unit that a runtime means to run it on.
public struct PlannedOperation: Codable, Equatable, Sendable {
    public var name: String
    public var `operator`: String
    public var unit: String
    public var cost: Double?
}

/// How many inferences ended on a core, and its clock after the last. This harness writes none; it reads and keeps them.
public struct CoreUse: Codable, Equatable, Sendable {
    public var core: Int
    public var inferences: Int
    public var runningKhz: Int?
    public var allowedKhz: Int?
    public var maximumKhz: Int?
}

/// One finished round of one cell. All times are wall nanoseconds, `cpuNs` CPU nanoseconds of all threads.
public struct RoundResult: Codable, Equatable, Sendable {
    public enum Status: String, Codable, Sendable { case done, failed, invalid }

    public var runId: String
    public var cell: String
    public var round: Int
    public var status: Status
    public var error: String?
    public var specializationNs: Int?
    public var loadFirstNs: Int?
    public var loadAgainNs: Int?
    public var firstInferenceNs: Int?
    public var samplesNs: [Int]?
    public var cpuNs: Int?
    public var peakMemoryBytes: Int?
    public var thermalState: ThermalState?
    /// Waited before it, until the device was cool.
    public var cooledSeconds: Double?
    /// To the golden inputs, float32, of round 0; nobody here knows what they should be.
    public var answers: Data?
    public var golden: GoldenOutcome?
    public var placement: [Placement]?
    public var profile: [OperatorTime]?
    public var cores: [CoreUse]?
    public var operations: [PlannedOperation]?
    public var warnings: [String]?
    // Of a browser or a host. This harness writes none; it reads and keeps them.
    public var cpuLeastNs: Int?
    public var fetchNs: Int?
    public var compileNs: Int?
    public var inferencesPerSample: Int?
    public var threadsUsed: Int?

    public init(runId: String, turn: Turn, status: Status = .done) {
        self.runId = runId
        cell = turn.cell
        round = turn.round
        self.status = status
    }

    public var turn: Turn { Turn(cell: cell, round: round) }
}
