#if canImport(CoreAI)
import CoreAI
import Foundation

/// Core AI: assets are specialized on the device, once for each choice of compute units, and a function of them is loaded.
@available(iOS 27, macOS 27, *)
public final class CoreAIRuntime: ModelRuntime {
    /// Names a function of an asset that holds several.
    static let functionOption = "function"

    public let name = "coreai"
    public let version = Machine.systemRuntimeVersion

    public init() {}

    public func install(_ cell: Cell, at file: URL, anew: Bool) throws -> Int? {
        let options = try CoreAIRuntime.options(cell)
        // An entry to which a model still refers is not deleted: then there is no time of specializing.
        if anew, try isSpecialized(file, options) { try? AIModelCache.default.deleteEntry(for: file, options: options) }
        guard try !isSpecialized(file, options) else { return nil }
        let (_, time) = try Clock.timed {
            try waitFor { _ = try await AIModel.specialize(contentsOf: file, options: options) }
        }
        return time
    }

    /// In a function of its own, at whose end the model is gone.
    private func isSpecialized(_ file: URL, _ options: SpecializationOptions) throws -> Bool {
        try AIModelCache.default.model(for: file, options: options) != nil
    }

    public func load(_ cell: Cell, at file: URL) throws -> LoadedModel {
        let options = try CoreAIRuntime.options(cell)
        let wanted = cell.options?[CoreAIRuntime.functionOption] ?? "main"
        let function = try waitFor {
            let model = try await AIModel(contentsOf: file, options: options)
            guard let function = try model.loadFunction(named: wanted) else {
                let names = model.functionNames.joined(separator: ", ")
                throw HarnessError("no function \(wanted) in \(file.lastPathComponent); it has \(names)")
            }
            return function
        }
        return try CoreAIModel(function, cell)
    }

    /// Core AI reports for no operation where it runs.
    public func plan(_ cell: Cell) throws -> ModelPlan { ModelPlan() }

    private static func options(_ cell: Cell) throws -> SpecializationOptions {
        if let unknown = cell.options?.keys.sorted().first(where: { $0 != functionOption }) {
            throw HarnessError("option \(unknown) is unknown to Core AI's harness; it knows \(functionOption)")
        }
        switch cell.computeUnits {
        case .default, nil: return .default
        case .cpuOnly: return .cpuOnly
        case .preferCPU: return try preferring(.cpu)
        case .preferGPU: return try preferring(.gpu)
        case .preferNeuralEngine: return try preferring(.neuralEngine)
        case .all, .cpuAndGPU, .cpuAndNeuralEngine:
            throw HarnessError("compute units \(cell.computeUnits!.rawValue) are Core ML's; Core AI has none of that name")
        }
    }

    private static func preferring(_ kind: ComputeUnitKind) throws -> SpecializationOptions {
        guard ComputeUnitKind.availableKinds.contains(kind) else { throw HarnessError("this device has no \(kind)") }
        return SpecializationOptions(preferredComputeUnitKind: kind)
    }
}
#endif
