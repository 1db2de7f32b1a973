import Foundation
import StandInScript

// Nothing here is Sendable, as far as Apple says: what a plan holds is read where it was loaded.

open class MLCPUComputeDevice: NSObject {}
open class MLGPUComputeDevice: NSObject {}
open class MLNeuralEngineComputeDevice: NSObject {}

public enum MLComputeDevice {
    case cpu(MLCPUComputeDevice)
    case gpu(MLGPUComputeDevice)
    case neuralEngine(MLNeuralEngineComputeDevice)

    init?(_ name: String) {
        switch name {
        case "cpu": self = .cpu(MLCPUComputeDevice())
        case "gpu": self = .gpu(MLGPUComputeDevice())
        case "neuralEngine": self = .neuralEngine(MLNeuralEngineComputeDevice())
        default: return nil
        }
    }
}

public enum MLModelStructure {
    public struct Program {
        public struct Operation {
            public let operatorName: String
            public let outputs: [MLModelStructure.Program.NamedValueType]
            public let blocks: [Block]
            let device: MLComputeDevice?
            let cost: Double?
        }
        public struct NamedValueType { public let name: String }
        public struct Block { public let operations: [Operation] }
        public struct Function { public let block: Block }
        public let functions: [String: Function]
    }
    public struct NeuralNetwork {
        public struct Layer { let device: MLComputeDevice? }
        public let layers: [Layer]
    }
    public struct Pipeline { public let subModels: [MLModelStructure] }

    case neuralNetwork(NeuralNetwork)
    case program(Program)
    case pipeline(Pipeline)
    case unsupported
}

public final class MLComputePlan {
    public struct DeviceUsage {
        public let supported: [MLComputeDevice]
        public let preferred: MLComputeDevice
    }
    public struct Cost { public let weight: Double }

    public let modelStructure: MLModelStructure

    private init(_ structure: MLModelStructure) { modelStructure = structure }

    public static func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLComputePlan {
        let operations = StandIn.script.plans["\(configuration.computeUnits)", default: []].map {
            MLModelStructure.Program.Operation(
                operatorName: $0.operation, outputs: [.init(name: $0.name ?? "")], blocks: [], device: $0.unit.flatMap { MLComputeDevice($0) }, cost: $0.cost)
        }
        let block = MLModelStructure.Program.Block(operations: operations)
        return MLComputePlan(.program(.init(functions: ["main": .init(block: block)])))
    }

    public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> DeviceUsage? {
        operation.device.map { DeviceUsage(supported: [$0], preferred: $0) }
    }

    public func deviceUsage(for layer: MLModelStructure.NeuralNetwork.Layer) -> DeviceUsage? {
        layer.device.map { DeviceUsage(supported: [$0], preferred: $0) }
    }

    public func estimatedCost(of operation: MLModelStructure.Program.Operation) -> Cost? {
        operation.cost.map { Cost(weight: $0) }
    }
}
