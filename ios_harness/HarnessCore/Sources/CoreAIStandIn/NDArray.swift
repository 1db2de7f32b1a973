import Foundation

/// What an array has to be. Rows of the preferred layout are padded to 64 bytes, as a chip may prefer: whoever takes rows
/// for adjacent fails here too.
@available(iOS 27, macOS 27, *)
public struct NDArrayDescriptor: Equatable, Sendable {
    public let shape: [Int]
    public let scalarType: NDArray.ScalarType

    public var preferredStrides: [Int] {
        let padded = 64 / scalarType.size
        return NDArray.strides(shape, row: ((shape.last ?? 1) + padded - 1) / padded * padded)
    }

    /// Dynamic dimensions are negative.
    public func resolvingDynamicDimensions(_ newShape: [Int]) -> NDArrayDescriptor {
        NDArrayDescriptor(shape: newShape, scalarType: scalarType)
    }
}

@available(iOS 27, macOS 27, *)
public struct NDArray: Sendable {
    public enum ScalarType: String, Sendable {
        case float32, float16, int32, uint8

        var size: Int {
            switch self {
            case .float32, .int32: return 4
            case .float16: return 2
            case .uint8: return 1
            }
        }
    }

    public let shape: [Int]
    public let scalarType: ScalarType
    public let strides: [Int]
    private var memory: Memory

    /// Rows are adjacent.
    public init(shape: [Int], scalarType: ScalarType) {
        self.init(shape, scalarType, NDArray.strides(shape, row: shape.last ?? 1))
    }

    public init(descriptor: NDArrayDescriptor) {
        self.init(descriptor.shape, descriptor.scalarType, descriptor.preferredStrides)
    }

    private init(_ shape: [Int], _ type: ScalarType, _ strides: [Int]) {
        (self.shape, scalarType, self.strides) = (shape, type, strides)
        memory = Memory(max(1, (strides.first ?? 1) * (shape.first ?? 1) * type.size))
    }

    public mutating func mutableView<T: BitwiseCopyable>(as type: T.Type = T.self) -> MutableView<T> {
        precondition(MemoryLayout<T>.size == scalarType.size, "a view of another type than the array's")
        if !isKnownUniquelyReferenced(&memory) { memory = memory.copy() }
        return MutableView(shape, strides, memory)
    }

    public func view<T: BitwiseCopyable>(as type: T.Type = T.self) -> View<T> {
        precondition(MemoryLayout<T>.size == scalarType.size, "a view of another type than the array's")
        return View(shape: shape, strides: strides, memory: memory)
    }

    static func strides(_ shape: [Int], row: Int) -> [Int] {
        var steps = [1]
        for axis in shape.indices.dropFirst().reversed() {
            steps.insert(steps[0] * (axis == shape.count - 1 ? row : shape[axis]), at: 0)
        }
        return steps
    }

    /// Elements before element `index` of those in row-major order.
    static func offset(of index: Int, _ shape: [Int], _ strides: [Int]) -> Int {
        var (rest, offset) = (index, 0)
        for axis in shape.indices.reversed() {
            offset += rest % shape[axis] * strides[axis]
            rest /= shape[axis]
        }
        return offset
    }

    /// The elements without padding, row-major.
    func packed() -> Data {
        let size = scalarType.size
        var data = Data()
        for index in 0..<shape.reduce(1, *) {
            let offset = NDArray.offset(of: index, shape, strides) * size
            data.append(contentsOf: memory.bytes[offset..<offset + size])
        }
        return data
    }

    public struct View<Element: BitwiseCopyable> {
        public let shape: [Int]
        public let strides: [Int]
        let memory: Memory

        public func withUnsafePointer<R, E: Error>(_ body: (UnsafePointer<Element>, [Int], [Int]) throws(E) -> R) throws(E) -> R {
            try body(UnsafePointer(memory.bytes.bindMemory(to: Element.self).baseAddress!), shape, strides)
        }
    }

    public struct MutableView<Element: BitwiseCopyable>: ~Copyable {
        private let shape: [Int]
        private let strides: [Int]
        private let memory: Memory

        init(_ shape: [Int], _ strides: [Int], _ memory: Memory) {
            (self.shape, self.strides, self.memory) = (shape, strides, memory)
        }

        public mutating func copyElements(fromContentsOf collection: some Collection<Element>) {
            precondition(collection.count == shape.reduce(1, *), "as many elements as the array has")
            let elements = memory.bytes.bindMemory(to: Element.self)
            for (index, element) in collection.enumerated() { elements[NDArray.offset(of: index, shape, strides)] = element }
        }
    }

    /// What arrays share until one of them is written.
    final class Memory: @unchecked Sendable {
        let bytes: UnsafeMutableRawBufferPointer

        init(_ count: Int) {
            bytes = .allocate(byteCount: count, alignment: 64)
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
        }

        deinit { bytes.deallocate() }

        func copy() -> Memory {
            let copy = Memory(bytes.count)
            copy.bytes.copyMemory(from: UnsafeRawBufferPointer(bytes))
            return copy
        }
    }
}
