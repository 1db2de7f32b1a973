import Foundation
import StandInScript

@available(iOS 27, macOS 27, *)
public struct InferenceFunctionDescriptor: Sendable {
    private let inputs: [String: StandIn.Port]
    private let output: String

    init(_ script: StandIn) { (inputs, output) = (script.inputs ?? [:], script.output) }

    public var inputNames: [String] { inputs.keys.sorted() }
    public var outputNames: [String] { [output] }

    public func inputDescriptor(of inputName: String) -> InferenceValue.Descriptor? {
        inputs[inputName].flatMap { port in
            NDArray.ScalarType(rawValue: port.type).map { .ndArray(NDArrayDescriptor(shape: port.shape, scalarType: $0)) }
        }
    }
}

/// Taken once: its array is moved out of it.
@available(iOS 27, macOS 27, *)
public struct InferenceValue: ~Copyable, Sendable {
    public enum Descriptor: Sendable {
        case ndArray(NDArrayDescriptor)
        case image(ImageDescriptor)
    }

    private let array: NDArray

    init(_ array: NDArray) { self.array = array }

    public var ndArray: NDArray? { array }
}

@available(iOS 27, macOS 27, *)
public struct ImageDescriptor: Sendable {
    public let width: Int
    public let height: Int
}

@available(iOS 27, macOS 27, *)
public struct InferenceFunction: Sendable {
    public struct MutableViews: ~Copyable {
        public init() {}
    }

    /// A value can be taken out once.
    public struct Outputs: ~Copyable, Sendable {
        private var values: [String: NDArray]

        init(_ values: [String: NDArray]) { self.values = values }

        public var names: some Collection<String> { values.keys }
        public mutating func remove(_ outputName: String) -> InferenceValue? {
            values.removeValue(forKey: outputName).map { InferenceValue($0) }
        }
    }

    public let descriptor: InferenceFunctionDescriptor
    private let asset: String
    private let units: String

    init(_ asset: String, _ units: String) {
        descriptor = InferenceFunctionDescriptor(StandIn.script)
        (self.asset, self.units) = (asset, units)
    }

    public func run(
        inputs: [String: NDArray], states: consuming MutableViews = MutableViews(),
        outputViews: consuming MutableViews = MutableViews()
    ) async throws -> Outputs {
        let script = StandIn.script
        try script.beforeInference(asset, units, backed: false)
        guard let (name, value) = inputs.first, descriptor.inputNames.contains(name) else {
            throw StandInError(text: "no input of \(asset)")
        }
        let answer = script.answer(to: value.packed(), asset, units)
        var output = NDArray(shape: [1, answer.count], scalarType: .float32)
        var view = output.mutableView(as: Float.self)
        view.copyElements(fromContentsOf: answer)
        return Outputs([script.output: output])
    }
}
