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
