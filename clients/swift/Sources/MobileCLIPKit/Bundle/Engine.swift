import Foundation

/// Where a model may run, by Core ML's names. ONNX Runtime on Linux knows `cpuOnly` alone.
public enum ComputeUnits: String, Sendable, CaseIterable { case all, cpuAndNeuralEngine, cpuAndGPU, cpuOnly }

/// What a tower takes: float32 planes [3, S, S] in [0, 1], or as many token ids as the network takes.
public enum TowerInput: Sendable {
    case pixels([Float])
    case ids([Int32])
}

/// One loaded tower. It runs one inference at a time.
public protocol TowerRunner: Sendable {
    /// The embedding, of any length.
    func run(_ input: TowerInput) async throws -> [Float]
}

/// Loads towers: Core ML's, Core AI's, ONNX Runtime's, or an app's own.
public protocol Engine: Sendable {
    /// Targets of bundles that it runs, as manifests name them.
    var targets: [String] { get }
    /// What it can run on, the fastest first.
    var computeUnits: [ComputeUnits] { get }
    func load(_ entry: Manifest.TowerEntry, at file: URL, on units: ComputeUnits) async throws -> any TowerRunner
}

/// The engine that this system has for a target.
func systemEngine(_ target: String) throws -> any Engine {
    #if canImport(CoreML)
    if target == "coreml" { return CoreMLEngine() }
    #endif
    #if canImport(CoreAI)
    if target == "coreai", #available(iOS 27, macOS 27, *) { return CoreAIEngine() }
    #endif
    throw MobileCLIPError(
        .bundle, "the bundle is for \(target), and this system has no engine of its own for it: name one in `engine`, or "
            + "export the bundle with --target coreml")
}

/// The towers of a loaded bundle, and where they run.
actor Towers {
    private let engine: any Engine
    private let files: [Tower: (entry: Manifest.TowerEntry, file: URL)]
    private(set) var units: ComputeUnits
    private var runners: [Tower: any TowerRunner]

    init(_ engine: any Engine, _ files: [Tower: (entry: Manifest.TowerEntry, file: URL)], _ units: ComputeUnits) async throws {
        (self.engine, self.files, self.units) = (engine, files, units)
        runners = try await Towers.loaded(engine, files, units)
    }

    private static func loaded(
        _ engine: any Engine, _ files: [Tower: (entry: Manifest.TowerEntry, file: URL)], _ units: ComputeUnits
    ) async throws -> [Tower: any TowerRunner] {
        var found: [Tower: any TowerRunner] = [:]
        for (tower, place) in files {
            do {
                found[tower] = try await engine.load(place.entry, at: place.file, on: units)
            } catch where !(error is MobileCLIPError) {
                throw MobileCLIPError(.bundle, "\(place.entry.file) cannot be loaded: \(error.localizedDescription)")
            }
        }
        return found
    }

    var others: [ComputeUnits] { engine.computeUnits.filter { $0 != units } }

    func runner(_ tower: Tower) throws -> any TowerRunner {
        guard let runner = runners[tower] else {
            throw MobileCLIPError(.bundle, "the \(tower.rawValue) tower was not loaded: name it in `towers`")
        }
        return runner
    }

    func loaded(on units: ComputeUnits) async throws -> [Tower: any TowerRunner] {
        try await Towers.loaded(engine, files, units)
    }

    func loaded() -> [Tower: any TowerRunner] { runners }

    /// What comes from here on is answered by these.
    func use(_ runners: [Tower: any TowerRunner], on units: ComputeUnits) { (self.runners, self.units) = (runners, units) }
}
