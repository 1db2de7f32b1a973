import CoreML
import Foundation

/// Core ML: packages are compiled on the device, once, and loaded with the cell's compute units.
public final class CoreMLRuntime: ModelRuntime {
    /// Names a function of a package that holds several.
    static let functionOption = "function"
    static let options = [functionOption, CoreMLModel.backingsOption]

    public let name = "coreml"
    public let version = Machine.systemRuntimeVersion
    private let compiledFolder: URL

    /// - Parameter compiledFolder: keeps compiled models; can be deleted at any time.
    public init(compiledFolder: URL) {
        self.compiledFolder = compiledFolder
    }

    public func install(_ cell: Cell, at file: URL, anew: Bool) throws -> Int? {
        let place = compiled(cell)
        guard !FileManager.default.fileExists(atPath: place.path) else { return nil }
        try FileManager.default.createDirectory(at: compiledFolder, withIntermediateDirectories: true)
        let fresh = try waitFor { try await MLModel.compileModel(at: file) }
        try FileManager.default.moveItem(at: fresh, to: place)
        return nil
    }

    public func load(_ cell: Cell, at file: URL) throws -> LoadedModel {
        let model = try MLModel(contentsOf: compiled(cell), configuration: try CoreMLRuntime.configuration(cell))
        return try CoreMLModel(model, cell)
    }

    public func plan(_ cell: Cell) throws -> ModelPlan {
        guard #available(iOS 17.4, macOS 14.4, *) else { return ModelPlan() }
        let url = compiled(cell)
        // Plan and configuration belong to one thread: only what was counted leaves it.
        return try waitFor {
            let plan = try await MLComputePlan.load(contentsOf: url, configuration: try CoreMLRuntime.configuration(cell))
            let histogram = ComputePlanHistogram(plan, function: cell.options?[CoreMLRuntime.functionOption])
            return ModelPlan(placements: histogram.placements, operations: histogram.named)
        }
    }

    private func compiled(_ cell: Cell) -> URL {
        compiledFolder.appendingPathComponent("\(cell.sha256).mlmodelc")
    }

    private static func configuration(_ cell: Cell) throws -> MLModelConfiguration {
        if let unknown = cell.options?.keys.sorted().first(where: { !CoreMLRuntime.options.contains($0) }) {
            let known = CoreMLRuntime.options.joined(separator: ", ")
            throw HarnessError("option \(unknown) is unknown to Core ML's harness; it knows \(known)")
        }
        let configuration = MLModelConfiguration()
        switch cell.computeUnits {
        case .cpuOnly: configuration.computeUnits = .cpuOnly
        case .cpuAndGPU: configuration.computeUnits = .cpuAndGPU
        case .cpuAndNeuralEngine: configuration.computeUnits = .cpuAndNeuralEngine
        case .all, nil: configuration.computeUnits = .all
        case .default, .preferCPU, .preferGPU, .preferNeuralEngine:
            throw HarnessError("compute units \(cell.computeUnits!.rawValue) are Core AI's; Core ML has none of that name")
        }
        if let function = cell.options?[CoreMLRuntime.functionOption] {
            guard #available(iOS 18, macOS 15, *) else {
                throw HarnessError("packages of several functions need iOS 18 or macOS 15; export without --multifunction")
            }
            configuration.functionName = function
        }
        return configuration
    }
}
