import Foundation

// result.json. What each field means stands in docs/benchmark.md; the schema is docs/schemas/benchmark-result.json.

public enum DeviceKind: String, Codable, Sendable { case host, android, ios, mac }

/// What it was measured on. `simulated`: a stand-in answered; its figures are nobody's latency.
public struct Device: Codable, Equatable, Sendable {
    public var kind: DeviceKind
    public var simulated: Bool
    public var name: String
    public var model: String
    public var soc: String?
    public var architecture: String
    public var os: String
    public var osVersion: String
    public var build: String?
    public var cores: Int
    public var coreMaximumKhz: [Int] = []
    public var memoryBytes: Int?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case kind, simulated, name, model, soc, architecture, os
        case osVersion = "os_version"
        case build, cores
        case coreMaximumKhz = "core_maximum_khz"
        case memoryBytes = "memory_bytes"
    }

    public init(
        kind: DeviceKind, simulated: Bool, name: String, model: String, architecture: String, os: String,
        osVersion: String, build: String?, cores: Int, memoryBytes: Int?
    ) {
        self.kind = kind
        self.simulated = simulated
        self.name = name
        self.model = model
        self.architecture = architecture
        self.os = os
        self.osVersion = osVersion
        self.build = build
        self.cores = cores
        self.memoryBytes = memoryBytes
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        kind = try fields.required(.kind)
        simulated = try fields.required(.simulated)
        name = try fields.required(.name)
        model = try fields.required(.model)
        soc = try fields.optional(.soc)
        architecture = try fields.required(.architecture)
        os = try fields.required(.os)
        osVersion = try fields.required(.osVersion)
        build = try fields.optional(.build)
        cores = try fields.count(.cores, in: 1...largestCount)
        coreMaximumKhz = try fields.defaultedCounts(.coreMaximumKhz)
        memoryBytes = try fields.optionalCount(.memoryBytes)
    }
}

/// What measured. `build`: release or debug. `qualityOfService`: of the thread that ran the inferences.
public struct HarnessDescription: Codable, Equatable, Sendable {
    public var name: String
    public var version: String
    public var build: String?
    public var affinity: [Int] = []
    public var qualityOfService: String?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name, version, build, affinity
        case qualityOfService = "quality_of_service"
    }

    public init(name: String, version: String, build: String?, qualityOfService: String?) {
        self.name = name
        self.version = version
        self.build = build
        self.qualityOfService = qualityOfService
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        name = try fields.required(.name)
        version = try fields.required(.version)
        build = try fields.optional(.build)
        affinity = try fields.defaultedCounts(.affinity)
        qualityOfService = try fields.optional(.qualityOfService)
    }
}

/// The state of the device at one moment; nil where it cannot be told.
public struct Snapshot: Codable, Equatable, Sendable {
    public var unixSeconds: Double
    public var thermalState: ThermalState?
    public var temperatureCelsius: Double?
    public var batteryPercent: Double?
    public var batteryCelsius: Double?
    public var charging: Bool?
    public var lowPowerMode: Bool?
    public var fixedPerformanceMode: Bool?
    public var governor: String?
    public var loadAverage1Min: Double?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case unixSeconds = "unix_seconds"
        case thermalState = "thermal_state"
        case temperatureCelsius = "temperature_celsius"
        case batteryPercent = "battery_percent"
        case batteryCelsius = "battery_celsius"
        case charging
        case lowPowerMode = "low_power_mode"
        case fixedPerformanceMode = "fixed_performance_mode"
        case governor
        case loadAverage1Min = "load_average_1min"
    }

    public init(unixSeconds: Double) {
        self.unixSeconds = unixSeconds
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        unixSeconds = try fields.required(.unixSeconds)
        thermalState = try fields.optional(.thermalState)
        temperatureCelsius = try fields.optional(.temperatureCelsius)
        batteryPercent = try fields.optional(.batteryPercent)
        batteryCelsius = try fields.optional(.batteryCelsius)
        charging = try fields.optional(.charging)
        lowPowerMode = try fields.optional(.lowPowerMode)
        fixedPerformanceMode = try fields.optional(.fixedPerformanceMode)
        governor = try fields.optional(.governor)
        loadAverage1Min = try fields.optional(.loadAverage1Min)
    }
}

public struct RunEnvironment: Codable, Equatable, Sendable {
    public var before: Snapshot
    public var after: Snapshot?

    enum CodingKeys: String, CodingKey, CaseIterable { case before, after }

    public init(before: Snapshot, after: Snapshot?) {
        self.before = before
        self.after = after
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        before = try fields.required(.before)
        after = try fields.optional(.after)
    }
}

/// A 95% bootstrap interval of the median.
public struct Interval: Codable, Equatable, Sendable {
    public var low: Double
    public var high: Double

    enum CodingKeys: String, CodingKey, CaseIterable { case low, high }

    public init(low: Double, high: Double) {
        self.low = low
        self.high = high
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        low = try fields.required(.low)
        high = try fields.required(.high)
    }
}

/// Of all samples of a cell, in nanoseconds; defined in docs/benchmark.md.
public struct Summary: Codable, Equatable, Sendable {
    public var samples: Int
    public var medianNs: Double
    public var p90Ns: Double
    public var p99Ns: Double
    public var meanNs: Double
    public var trimmedMeanNs: Double
    public var minimumNs: Int
    public var maximumNs: Int
    public var lastOverFirst: Double?
    public var medianIntervalNs: Interval
    public var cpuNs: Double?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case samples
        case medianNs = "median_ns"
        case p90Ns = "p90_ns"
        case p99Ns = "p99_ns"
        case meanNs = "mean_ns"
        case trimmedMeanNs = "trimmed_mean_ns"
        case minimumNs = "minimum_ns"
        case maximumNs = "maximum_ns"
        case lastOverFirst = "last_over_first"
        case medianIntervalNs = "median_interval_ns"
        case cpuNs = "cpu_ns"
    }
}

extension Summary {
    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        samples = try fields.count(.samples)
        medianNs = try fields.required(.medianNs)
        p90Ns = try fields.required(.p90Ns)
        p99Ns = try fields.required(.p99Ns)
        meanNs = try fields.required(.meanNs)
        trimmedMeanNs = try fields.required(.trimmedMeanNs)
        minimumNs = try fields.count(.minimumNs)
        maximumNs = try fields.count(.maximumNs)
        lastOverFirst = try fields.optional(.lastOverFirst)
        medianIntervalNs = try fields.required(.medianIntervalNs)
        cpuNs = try fields.optional(.cpuNs)
    }
}

/// One cell: its rounds and their summary.
public struct CellResult: Codable, Equatable, Sendable {
    public enum Status: String, Codable, Sendable { case done, failed, invalid, skipped }

    public var id: String
    public var status: Status
    public var error: String?
    public var loadFirstNs: Int?
    public var loadAgainNs: Int?
    public var firstInferenceNs: Int?
    public var peakMemoryBytes: Int?
    public var golden: GoldenOutcome?
    public var placement: [Placement] = []
    public var profile: [OperatorTime] = []
    public var summary: Summary?
    public var warnings: [String] = []
    public var rounds: [RoundResult] = []

    enum CodingKeys: String, CodingKey, CaseIterable {
        case id, status, error
        case loadFirstNs = "load_first_ns"
        case loadAgainNs = "load_again_ns"
        case firstInferenceNs = "first_inference_ns"
        case peakMemoryBytes = "peak_memory_bytes"
        case golden, placement, profile, summary, warnings, rounds
    }

    init(id: String, status: Status) {
        self.id = id
        self.status = status
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        id = try fields.text(.id, .identifier)
        status = try fields.required(.status)
        error = try fields.optional(.error)
        loadFirstNs = try fields.optionalCount(.loadFirstNs)
        loadAgainNs = try fields.optionalCount(.loadAgainNs)
        firstInferenceNs = try fields.optionalCount(.firstInferenceNs)
        peakMemoryBytes = try fields.optionalCount(.peakMemoryBytes)
        golden = try fields.optional(.golden)
        placement = try fields.defaulted(.placement, to: [])
        profile = try fields.defaulted(.profile, to: [])
        summary = try fields.optional(.summary)
        warnings = try fields.defaulted(.warnings, to: [])
        rounds = try fields.defaulted(.rounds, to: [])
    }
}

/// One run on one device; `cells` are in the order of the job's.
public struct BenchmarkResult: Codable, Equatable, Sendable {
    public var schemaVersion: Int
    public var runId: String
    public var job: Job
    public var device: Device
    public var harness: HarnessDescription
    public var runtimes: [String: String]
    public var environment: RunEnvironment
    public var cells: [CellResult]

    enum CodingKeys: String, CodingKey, CaseIterable {
        case schemaVersion = "schema_version"
        case runId = "run_id"
        case job, device, harness, runtimes, environment, cells
    }

    public init(
        job: Job, device: Device, harness: HarnessDescription, runtimes: [String: String], environment: RunEnvironment,
        cells: [CellResult]
    ) {
        schemaVersion = job.schemaVersion
        runId = job.runId
        self.job = job
        self.device = device
        self.harness = harness
        self.runtimes = runtimes
        self.environment = environment
        self.cells = cells
    }

    public init(from decoder: Decoder) throws {
        let fields = try Fields(decoder, CodingKeys.self)
        schemaVersion = try fields.count(.schemaVersion, in: 1...1)
        runId = try fields.text(.runId, .identifier)
        job = try fields.required(.job)
        device = try fields.required(.device)
        harness = try fields.required(.harness)
        runtimes = try fields.required(.runtimes)
        environment = try fields.required(.environment)
        cells = try fields.required(.cells)
        _ = try fields.ensure(runId == job.runId, (), .runId, "is not the job's")
        _ = try fields.ensure(cells.map(\.id) == job.cells.map(\.id), (), .cells, "are not the job's")
    }
}
