#if canImport(CoreAI)
import CoreAI
import Foundation

/// A loaded function of a Core AI asset. Its input lies in the layout that the function prefers.
@available(iOS 27, macOS 27, *)
final class CoreAIModel: LoadedModel {
    let warnings: [String] = []
    private let function: InferenceFunction
    private let cell: Cell
    private let descriptor: NDArrayDescriptor
    private var inputs: [String: NDArray] = [:]
    private var answer: NDArray?

    init(_ function: InferenceFunction, _ cell: Cell) throws {
        (self.function, self.cell) = (function, cell)
        guard case .ndArray(let declared) = function.descriptor.inputDescriptor(of: cell.input.name) else {
            let names = function.descriptor.inputNames.joined(separator: ", ")
            throw HarnessError("the model takes no array \(cell.input.name); its inputs: \(names)")
        }
        let (wanted, shape) = (try scalarType(cell.input.dtype), cell.input.shape)
        // Dynamic dimensions are negative.
        let fits = declared.shape.count == shape.count && zip(declared.shape, shape).allSatisfy { $0 < 0 || $0 == $1 }
        guard fits, declared.scalarType == wanted else {
            let takes = "\(declared.scalarType) \(declared.shape) as \(cell.input.name)"
            throw HarnessError("the model takes \(takes), not \(wanted) \(shape)")
        }
        descriptor = declared.resolvingDynamicDimensions(shape)
    }

    func prepare(_ example: Example) throws {
        var array = NDArray(descriptor: descriptor)
        switch example.dtype {
        case .float32:
            var view = array.mutableView(as: Float.self)
            view.copyElements(fromContentsOf: elements(example, as: Float.self))
        case .int32:
            var view = array.mutableView(as: Int32.self)
            view.copyElements(fromContentsOf: elements(example, as: Int32.self))
        case .uint8, .float16, .int64:
            throw HarnessError("inputs of Core AI's assets are float32 or int32 here, not \(example.dtype.rawValue)")
        }
        inputs = [cell.input.name: array]
    }

    func infer() throws {
        let (function, inputs, name) = (function, inputs, cell.output.name)
        answer = try waitFor {
            var outputs = try await function.run(inputs: inputs)
            guard let value = outputs.remove(name), let array = value.ndArray else {
                let names = function.descriptor.outputNames.joined(separator: ", ")
                throw HarnessError("the model gives no array \(name); its outputs: \(names)")
            }
            return array
        }
    }

    /// In one task, as an app would: waking the thread that waits for it is no part of an inference.
    func sample(_ sampling: Sampling) throws -> [Int] {
        let (function, inputs) = (function, inputs)
        return try waitFor {
            var samples: [Int] = []
            samples.reserveCapacity(max(sampling.count, 4096))
            let start = Clock.wall()
            while sampling.goesOn(samples.count, since: start) {
                let pause = sampling.pause(before: samples.count, since: start)
                if pause > 0 { try await Task.sleep(nanoseconds: pause) }
                let before = Clock.wall()
                _ = try await function.run(inputs: inputs)
                samples.append(Int(Clock.wall() - before))
            }
            return samples
        }
    }

    func output() throws -> [Float] {
        guard let answer else { throw HarnessError("no inference was made") }
        let width = cell.output.shape.reduce(1, *)
        guard answer.scalarType == .float32, answer.shape.reduce(1, *) == width else {
            throw HarnessError("the model gives \(answer.scalarType) \(answer.shape) instead of float32 \(cell.output.shape)")
        }
        // What `run` gives is row-major without padding.
        return answer.view(as: Float.self).withUnsafePointer { pointer, _, _ in
            Array(UnsafeBufferPointer(start: pointer, count: width))
        }
    }

    private func elements<Element: BitwiseCopyable>(_ example: Example, as type: Element.Type) -> [Element] {
        example.bytes.withUnsafeBytes { Array($0.bindMemory(to: type)) }
    }
}

@available(iOS 27, macOS 27, *)
private func scalarType(_ dtype: Dtype) throws -> NDArray.ScalarType {
    switch dtype {
    case .float32: return .float32
    case .int32: return .int32
    case .uint8, .float16, .int64: throw HarnessError("inputs of Core AI's assets are float32 or int32 here, not \(dtype.rawValue)")
    }
}
#endif
