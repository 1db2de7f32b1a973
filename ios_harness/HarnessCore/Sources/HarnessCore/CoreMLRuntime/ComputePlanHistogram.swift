import CoreML
import Foundation

/// How many operations Core ML means to run on each unit, and their share of its estimated cost. A prediction: no API
/// reports to an app where an inference ran.
@available(iOS 17.4, macOS 14.4, *)
struct ComputePlanHistogram {
    private var operations: [String: Int] = [:]
    private var costs: [String: Double] = [:]
    /// The operations of programs, one by one; layers of the older networks have no names.
    private(set) var named: [PlannedOperation] = []

    private let function: String?

    /// - Parameter function: of a program that holds several, the one to count; nil: all.
    init(_ plan: MLComputePlan, function: String? = nil) {
        self.function = function
        add(plan.modelStructure, plan)
    }

    /// Most operations first. Constants are no operations here; those without a unit are "unknown".
    var placements: [Placement] {
        let total = costs.values.reduce(0, +)
        return operations.keys.sorted { (operations[$1]!, $0) < (operations[$0]!, $1) }.map { unit in
            Placement(unit: unit, operations: operations[unit]!, costShare: total > 0 ? costs[unit, default: 0] / total : nil)
        }
    }

    private mutating func add(_ structure: MLModelStructure, _ plan: MLComputePlan) {
        switch structure {
        case .program(let program):
            let chosen = function.flatMap { program.functions[$0] }
            for one in chosen.map({ [$0] }) ?? Array(program.functions.values) { add(one.block, plan) }
        case .neuralNetwork(let network):
            for layer in network.layers { _ = count(plan.deviceUsage(for: layer), cost: nil) }
        case .pipeline(let pipeline):
            for part in pipeline.subModels { add(part, plan) }
        case .unsupported:
            break
        @unknown default:
            break
        }
    }

    private mutating func add(_ block: MLModelStructure.Program.Block, _ plan: MLComputePlan) {
        for operation in block.operations {
            for inner in operation.blocks { add(inner, plan) }
            let usage = plan.deviceUsage(for: operation)
            if usage == nil, operation.operatorName.hasSuffix("const") { continue }
            let cost = plan.estimatedCost(of: operation)?.weight
            let unit = count(usage, cost: cost)
            let name = operation.outputs.first?.name ?? ""
            named.append(PlannedOperation(name: name, operator: operation.operatorName, unit: unit, cost: cost))
        }
    }

    private mutating func count(_ usage: MLComputePlan.DeviceUsage?, cost: Double?) -> String {
        let unit = usage.map { name($0.preferred) } ?? "unknown"
        operations[unit, default: 0] += 1
        costs[unit, default: 0] += cost ?? 0
        return unit
    }

    private func name(_ device: MLComputeDevice) -> String {
        switch device {
        case .cpu: return "cpu"
        case .gpu: return "gpu"
        case .neuralEngine: return "neuralEngine"
        @unknown default: return "unknown"
        }
    }
}
