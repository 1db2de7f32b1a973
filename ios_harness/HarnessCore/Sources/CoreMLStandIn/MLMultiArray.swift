import Foundation

public enum MLMultiArrayDataType: Int, Sendable { case double, float32, float16, int32 }

/// Rows are padded to 64 bytes, as Core ML's may be: whoever takes strides for granted fails here too.
open class MLMultiArray: NSObject {
    public let shape: [NSNumber]
    public let dataType: MLMultiArrayDataType
    public let strides: [NSNumber]
    private let storage: UnsafeMutableRawBufferPointer

    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        self.shape = shape
        self.dataType = dataType
        let size = MLMultiArray.size(dataType)
        let padded = 64 / size
        var steps = [1]
        for (axis, length) in shape.map(\.intValue).enumerated().reversed() where axis > 0 {
            steps.insert(axis == shape.count - 1 ? (length + padded - 1) / padded * padded : steps[0] * length, at: 0)
        }
        strides = steps.map { NSNumber(value: $0) }
        storage = .allocate(byteCount: max(1, steps[0] * (shape.first?.intValue ?? 0) * size), alignment: 64)
        storage.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit { storage.deallocate() }

    public var count: Int { shape.reduce(1) { $0 * $1.intValue } }

    public subscript(key: [NSNumber]) -> NSNumber {
        get {
            let offset = zip(key, strides).reduce(0) { $0 + $1.0.intValue * $1.1.intValue }
            switch dataType {
            case .double: return NSNumber(value: storage.load(fromByteOffset: 8 * offset, as: Double.self))
            case .float32: return NSNumber(value: storage.load(fromByteOffset: 4 * offset, as: Float.self))
            case .float16: return NSNumber(value: storage.load(fromByteOffset: 2 * offset, as: UInt16.self))
            case .int32: return NSNumber(value: storage.load(fromByteOffset: 4 * offset, as: Int32.self))
            }
        }
        set {
            let offset = zip(key, strides).reduce(0) { $0 + $1.0.intValue * $1.1.intValue }
            switch dataType {
            case .double: storage.storeBytes(of: newValue.doubleValue, toByteOffset: 8 * offset, as: Double.self)
            case .float32: storage.storeBytes(of: newValue.floatValue, toByteOffset: 4 * offset, as: Float.self)
            case .float16: storage.storeBytes(of: newValue.uint16Value, toByteOffset: 2 * offset, as: UInt16.self)
            case .int32: storage.storeBytes(of: newValue.int32Value, toByteOffset: 4 * offset, as: Int32.self)
            }
        }
    }

    public func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R) rethrows -> R {
        try body(storage, strides.map(\.intValue))
    }

    /// The elements without padding, row-major.
    func packed() -> Data {
        let size = MLMultiArray.size(dataType)
        let lengths = shape.map(\.intValue)
        let row = lengths.last ?? 1
        var data = Data(capacity: count * size)
        for index in 0..<count / max(1, row) {
            var (rest, offset) = (index, 0)
            for axis in lengths.indices.dropLast().reversed() {
                offset += rest % lengths[axis] * strides[axis].intValue
                rest /= lengths[axis]
            }
            data.append(contentsOf: storage[offset * size..<(offset + row) * size])
        }
        return data
    }

    private static func size(_ type: MLMultiArrayDataType) -> Int {
        switch type {
        case .double: return 8
        case .float32, .int32: return 4
        case .float16: return 2
        }
    }
}
