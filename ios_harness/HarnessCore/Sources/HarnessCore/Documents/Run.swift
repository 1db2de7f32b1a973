import Foundation

// <run_id>.run.json: what goes back. No figure is computed here; the schema is docs/schemas/benchmark-run.json.

public enum DeviceKind: String, Codable, Sendable { case host, android, ios, mac }

/// What it was measured on. `simulated`: a stand-in answered; its figures are not real latencies.
public struct Device: Codable, Equatable, Sendable {
    public var kind: DeviceKind
    public var simulated: Bool
    public var name: String
    public var model: String
    public var architecture: String
    public var os: String
    public var osVersion: String
    public var build: String?
    public var cores: Int
    public var memoryBytes: Int?
}

/// What measured. `build`: release or debug. `qualityOfService`: of the thread that ran the inferences.
public struct HarnessDescription: Codable, Equatable, Sendable {
    public var name: String
    public var version: String
    public var build: String?
    public var qualityOfService: String?
}

/// The state of the device at one moment; nil if unknown.
public struct Snapshot: Codable, Equatable, Sendable {
    public var unixSeconds: Double
    public var thermalState: ThermalState?
    public var batteryPercent: Double?
    public var charging: Bool?
    public var lowPowerMode: Bool?
    public var loadAverage1Min: Double?
}

public struct RunEnvironment: Codable, Equatable, Sendable {
    public var before: Snapshot
    public var after: Snapshot?
}

/// One run on one device.
public struct BenchmarkRecord: Codable, Equatable, Sendable {
    public var schemaVersion: Int
    public var runId: String
    public var job: Job
    public var device: Device
    public var harness: HarnessDescription
    public var runtimes: [String: String]
    public var environment: RunEnvironment
    public var rounds: [RoundResult]
}

extension BenchmarkRecord {
    /// Text for a screen: the first error, or the median of all samples and the number of rounds. Answers are compared later.
    public func outcome(of cell: Cell) -> String {
        let all = rounds.filter { $0.cell == cell.id }
        let samples = all.flatMap { $0.samplesNs ?? [] }.sorted()
        if let error = all.compactMap(\.error).first { return error }
        let count = "\(all.count) of \(job.protocol.rounds) rounds"
        guard !samples.isEmpty else { return count }
        let median = (samples[(samples.count - 1) / 2] + samples[samples.count / 2]) / 2
        return String(format: "%.3f ms, ", Double(median) / 1e6) + count
    }
}
