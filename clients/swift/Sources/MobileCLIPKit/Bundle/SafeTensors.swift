import Foundation

/// A .safetensors file: the types that golden answers, background pictures and labels have.
struct SafeTensors {
    struct Tensor {
        let dtype: String
        let shape: [Int]
        let bytes: Data

        var float32: [Float]? { dtype == "F32" ? elements() : nil }
        var int32: [Int32]? { dtype == "I32" ? elements() : nil }
        var int8: [Int8]? { dtype == "I8" ? elements() : nil }
        var uint8: [UInt8]? { dtype == "U8" ? Array(bytes) : nil }

        private func elements<Element: BitwiseCopyable>() -> [Element] {
            bytes.withUnsafeBytes { bytes in
                stride(from: 0, to: bytes.count, by: MemoryLayout<Element>.size).map {
                    bytes.loadUnaligned(fromByteOffset: $0, as: Element.self)
                }
            }
        }
    }

    private struct Entry: Decodable {
        let dtype: String?
        let shape: [Int]?
        let offsets: [Int]?
        let prompts: String?
        let labels: String?
        enum CodingKeys: String, CodingKey {
            case dtype, shape, prompts, labels
            case offsets = "data_offsets"
        }
    }

    private static let sizes = ["F32": 4, "I32": 4, "I8": 1, "U8": 1]
    private let tensors: [String: Tensor]
    /// The golden texts; nil where the file names none.
    let prompts: [String]?
    /// The description of learned labels.
    let labels: String?

    init(_ content: Data, named name: String) throws {
        let broken = MobileCLIPError(.bundle, "\(name) is damaged: export the bundle again")
        guard content.count >= 8 else { throw broken }
        let length = content.withUnsafeBytes { long($0, 0) }
        guard length <= UInt64(content.count - 8) else { throw broken }
        let start = content.startIndex + 8
        let header = content[start..<start + Int(length)]
        guard let entries = try? JSONDecoder().decode([String: Entry].self, from: header) else { throw broken }
        let body = start + Int(length)
        var tensors: [String: Tensor] = [:]
        for (key, entry) in entries where key != "__metadata__" {
            guard let dtype = entry.dtype, let shape = entry.shape, let offsets = entry.offsets, let size = SafeTensors.sizes[dtype],
                offsets.count == 2, offsets[0] >= 0, offsets[0] <= offsets[1], offsets[1] <= content.endIndex - body,
                shape.allSatisfy({ (0...1 << 24).contains($0) }), shape.count <= 4,
                shape.reduce(size, { $0.multipliedReportingOverflow(by: $1).partialValue }) == offsets[1] - offsets[0]
            else { throw broken }
            tensors[key] = Tensor(dtype: dtype, shape: shape, bytes: content[body + offsets[0]..<body + offsets[1]])
        }
        self.tensors = tensors
        labels = entries["__metadata__"]?.labels
        prompts = entries["__metadata__"]?.prompts.flatMap { try? JSONDecoder().decode([String].self, from: Data($0.utf8)) }
    }

    subscript(name: String) -> Tensor? { tensors[name] }
}
