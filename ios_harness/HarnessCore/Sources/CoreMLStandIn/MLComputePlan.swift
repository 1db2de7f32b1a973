import Foundation

public final class MLCPUComputeDevice: Sendable {}
public final class MLGPUComputeDevice: Sendable {}
public final class MLNeuralEngineComputeDevice: Sendable {}

public enum MLComputeDevice: Sendable {
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

public enum MLModelStructure: Sendable {
    public struct Program: Sendable {
        public struct Operation: Sendable {
            public let operatorName: String
            public let blocks: [Block]
            let device: MLComputeDevice?
            let cost: Double?
        }
        public struct Block: Sendable { public let operations: [Operation] }
        public struct Function: Sendable { public let block: Block }
        public let functions: [String: Function]
    }
    public struct NeuralNetwork: Sendable {
        public struct Layer: Sendable { let device: MLComputeDevice? }
        public let layers: [Layer]
    }
    public struct Pipeline: Sendable { public let subModels: [MLModelStructure] }

    case neuralNetwork(NeuralNetwork)
    case program(Program)
    case pipeline(Pipeline)
    case unsupported
}

public final class MLComputePlan: Sendable {
    public struct DeviceUsage: Sendable {
        public let supported: [MLComputeDevice]
        public let preferred: MLComputeDevice
    }
    public struct Cost: Sendable { public let weight: Double }

    public let modelStructure: MLModelStructure

    private init(_ structure: MLModelStructure) { modelStructure = structure }

    public static func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLComputePlan {
        let operations = StandIn.script.plan(configuration.computeUnits).map {
            MLModelStructure.Program.Operation(
                operatorName: $0.operation, blocks: [], device: $0.unit.flatMap { MLComputeDevice($0) }, cost: $0.cost)
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
