import Foundation

/// A cell's golden inputs, or the one constant input of a cell that has none.
struct GoldenExamples {
    let inputs: [Example]

    /// - Parameters:
    ///   - folder: where job.json lies.
    ///   - limit: maximum number to take; 0 is all.
    init(_ cell: Cell, folder: URL, limit: Int) throws {
        guard let golden = cell.golden else {
            inputs = [GoldenExamples.constant(cell)]
            return
        }
        let rows = try GoldenExamples.rows(golden.inputs, folder)
        let count = limit == 0 ? rows.count : min(limit, rows.count)
        let shape = [1] + golden.inputs.shape.dropFirst()
        guard !rows.isEmpty, golden.inputs.dtype == cell.input.dtype, shape == cell.input.shape else {
            throw HarnessError("\(cell.id): golden inputs are not what the model takes; write the job again")
        }
        inputs = rows.prefix(count).map { Example(dtype: golden.inputs.dtype, shape: shape, bytes: $0) }
    }

    private static func rows(_ tensor: RawTensor, _ folder: URL) throws -> [Data] {
        let data = try Data(contentsOf: folder.appendingPathComponent(tensor.file))
        guard try FileHash.of(folder.appendingPathComponent(tensor.file)) == tensor.sha256 else {
            throw HarnessError("\(tensor.file) did not arrive as it was sent; copy the job's folder again")
        }
        let size = tensor.shape.dropFirst().reduce(tensor.dtype.size, *)
        guard data.count == size * tensor.shape[0] else {
            throw HarnessError("\(tensor.file) holds \(data.count) bytes instead of \(size * tensor.shape[0]); write the job again")
        }
        return (0..<tensor.shape[0]).map { data.subdata(in: $0 * size..<($0 + 1) * size) }
    }

    /// Pixels 0.5; ids: start, end, padding.
    private static func constant(_ cell: Cell) -> Example {
        let count = cell.input.shape.reduce(1, *)
        var bytes = Data(capacity: count * cell.input.dtype.size)
        for index in 0..<count {
            let id = cell.tower == .text && index < 2 ? 49406 + index : 0
            switch cell.input.dtype {
            case .uint8: bytes.append(128)
            case .float32: bytes.append(littleEndian: Float(0.5).bitPattern)
            case .float16: bytes.append(littleEndian: UInt16(0x3800))  // 0.5
            case .int32: bytes.append(littleEndian: Int32(id))
            case .int64: bytes.append(littleEndian: Int64(id))
            }
        }
        return Example(dtype: cell.input.dtype, shape: cell.input.shape, bytes: bytes)
    }
}

extension Data {
    mutating func append<Value: FixedWidthInteger>(littleEndian value: Value) {
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }
}
