import CoreML
import Foundation

/// A loaded Core ML model: input and output lie in memory that is reused by every inference.
final class CoreMLModel: LoadedModel {
    /// "on" (the default): Core ML writes its output into memory of ours; "off": into memory of its own.
    static let backingsOption = "output_backings"

    private(set) var warnings: [String] = []
    private let model: MLModel
    private let cell: Cell
    private let options = MLPredictionOptions()
    private var inputs: MLDictionaryFeatureProvider?
    private var outputs: MLFeatureProvider?

    init(_ model: MLModel, _ cell: Cell) throws {
        self.model = model
        self.cell = cell
        switch cell.options?[CoreMLModel.backingsOption] ?? "on" {
        case "on":
            let shape = cell.output.shape.map { NSNumber(value: $0) }
            options.outputBackings = [cell.output.name: try MLMultiArray(shape: shape, dataType: try elementType(cell.output.dtype))]
        case "off": break
        case let other: throw HarnessError("option \(CoreMLModel.backingsOption) is on or off, not \(other)")
        }
    }

    func prepare(_ example: Example) throws {
        let value: MLFeatureValue
        if cell.tower == .image && example.dtype == .uint8 {
            value = MLFeatureValue(pixelBuffer: try PixelBuffer.make(planes: example))
        } else {
            value = MLFeatureValue(multiArray: try multiArray(example))
        }
        inputs = try MLDictionaryFeatureProvider(dictionary: [cell.input.name: value])
    }

    func infer() throws {
        guard let inputs else { throw HarnessError("no input was prepared") }
        if outputs == nil, !options.outputBackings.isEmpty {
            try firstInference(inputs)
        } else {
            outputs = try model.prediction(from: inputs, options: options)
        }
    }

    func output() throws -> [Float] {
        guard let array = outputs?.featureValue(for: cell.output.name)?.multiArrayValue else {
            let names = outputs?.featureNames.sorted().joined(separator: ", ") ?? "none"
            throw HarnessError("the model gives no \(cell.output.name); its outputs: \(names)")
        }
        let width = cell.output.shape.last ?? 0
        guard array.count == width else { throw HarnessError("the model gives \(array.count) numbers instead of \(width)") }
        let leading = [NSNumber](repeating: 0, count: array.shape.count - 1)
        return (0..<width).map { array[leading + [NSNumber(value: $0)]].floatValue }
    }

    /// Not every model takes memory of ours for its output: some refuse it, some write elsewhere and say nothing. Both are
    /// measured, and the result says so.
    private func firstInference(_ inputs: MLFeatureProvider) throws {
        do {
            outputs = try model.prediction(from: inputs, options: options)
            let written = outputs?.featureValue(for: cell.output.name)?.multiArrayValue
            if written !== options.outputBackings[cell.output.name] as? MLMultiArray {
                warnings.append("output backings were ignored: Core ML wrote into memory of its own")
            }
        } catch {
            options.outputBackings = [:]
            outputs = try model.prediction(from: inputs, options: options)
            warnings.append("output backings were refused (\(error.localizedDescription)); measured without")
        }
    }

    private func multiArray(_ example: Example) throws -> MLMultiArray {
        let array = try MLMultiArray(shape: example.shape.map { NSNumber(value: $0) }, dataType: try elementType(example.dtype))
        let (shape, size) = (example.shape, example.dtype.size)
        array.withUnsafeMutableBytes { target, strides in
            example.bytes.withUnsafeBytes { (source: UnsafeRawBufferPointer) in
                // Row by row: Core ML may pad rows, so that its strides are not those of a packed array.
                let row = shape.last ?? 1
                for index in 0..<source.count / (row * size) {
                    let offset = CoreMLModel.offset(ofRow: index, shape, strides) * size
                    let bytes = UnsafeRawBufferPointer(rebasing: source[index * row * size..<(index + 1) * row * size])
                    UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyMemory(from: bytes)
                }
            }
        }
        return array
    }

    /// Elements before row `index`, counting rows in row-major order of all dimensions but the last.
    static func offset(ofRow index: Int, _ shape: [Int], _ strides: [Int]) -> Int {
        var (rest, offset) = (index, 0)
        for axis in shape.indices.dropLast().reversed() {
            offset += rest % shape[axis] * strides[axis]
            rest /= shape[axis]
        }
        return offset
    }
}

private func elementType(_ dtype: Dtype) throws -> MLMultiArrayDataType {
    switch dtype {
    case .float32: return .float32
    case .float16: return .float16
    case .int32: return .int32
    case .uint8, .int64: throw HarnessError("Core ML's arrays hold no \(dtype.rawValue)")
    }
}
