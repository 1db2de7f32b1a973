#if canImport(CoreAI)
import CoreAI
import Foundation

/// Core AI, of iOS 27 and macOS 27. The system specializes an asset once for each choice of compute units, and keeps it.
@available(iOS 27, macOS 27, *)
public struct CoreAIEngine: Engine {
    public let targets = ["coreai"]
    public let computeUnits: [ComputeUnits] = [.all, .cpuAndNeuralEngine, .cpuAndGPU, .cpuOnly]

    public init() {}

    public func load(_ entry: Manifest.TowerEntry, at file: URL, on units: ComputeUnits) async throws -> any TowerRunner {
        let options: SpecializationOptions
        switch units {
        case .all: options = .default
        case .cpuOnly: options = .cpuOnly
        case .cpuAndGPU: options = try preferring(.gpu)
        case .cpuAndNeuralEngine: options = try preferring(.neuralEngine)
        }
        do {
            let model = try await AIModel(contentsOf: file, options: options)
            guard let function = try model.loadFunction(named: entry.function ?? "main") else {
                throw MobileCLIPError(.bundle, "\(entry.file) holds no function \(entry.function ?? "main"): export the bundle again")
            }
            return try CoreAITower(entry, function)
        } catch let error as MobileCLIPError {
            throw error
        } catch {
            throw MobileCLIPError(.bundle, "\(entry.file) cannot be loaded on \(units.rawValue): \(error.localizedDescription)")
        }
    }

    private func preferring(_ kind: ComputeUnitKind) throws -> SpecializationOptions {
        guard ComputeUnitKind.availableKinds.contains(kind) else { throw MobileCLIPError(.bundle, "this device has no \(kind)") }
        return SpecializationOptions(preferredComputeUnitKind: kind)
    }
}

@available(iOS 27, macOS 27, *)
private actor CoreAITower: TowerRunner {
    private let entry: Manifest.TowerEntry
    private let function: InferenceFunction
    private let descriptor: NDArrayDescriptor

    init(_ entry: Manifest.TowerEntry, _ function: InferenceFunction) throws {
        guard case .ndArray(let declared) = function.descriptor.inputDescriptor(of: entry.input.name) else {
            throw MobileCLIPError(.bundle, "\(entry.file) takes no array \(entry.input.name): export the bundle again")
        }
        (self.entry, self.function) = (entry, function)
        descriptor = declared.resolvingDynamicDimensions([1] + entry.input.shape.dropFirst())
    }

    func run(_ input: TowerInput) async throws -> [Float] {
        var array = NDArray(descriptor: descriptor)
        switch input {
        case .pixels(let pixels):
            var view = array.mutableView(as: Float.self)
            view.copyElements(fromContentsOf: pixels)
        case .ids(let ids):
            var view = array.mutableView(as: Int32.self)
            view.copyElements(fromContentsOf: ids)
        }
        var outputs = try await function.run(inputs: [entry.input.name: array])
        guard let value = outputs.remove(entry.output.name), let found = value.ndArray, found.scalarType == .float32 else {
            throw MobileCLIPError(.bundle, "\(entry.file) gives no float32 \(entry.output.name): export the bundle again")
        }
        let count = found.shape.reduce(1, *)
        // What `run` gives is row-major without padding.
        return found.view(as: Float.self).withUnsafePointer { pointer, _, _ in
            Array(UnsafeBufferPointer(start: pointer, count: count))
        }
    }
}
#endif
