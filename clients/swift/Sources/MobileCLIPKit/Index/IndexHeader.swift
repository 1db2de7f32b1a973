import Foundation

/// Header of an index, before its blocks.
struct IndexHeader {
    private static let magic: [UInt8] = Array("MCDX".utf8) + [0x0D, 0x0A, 0x1A, 0x0A]
    private static let start = 128

    let dimension: Int
    let store: Index.Store
    let kinds: [IndexFile.Kind]
    let scale: Double
    /// Bytes of the description.
    let told: Int
    let description: Index.Description
    /// End of the valid bytes.
    let committed: Int
    /// The offset of the slot that says so, 64 or 96, and its sequence.
    let slot: Int
    let sequence: UInt64

    init(_ bytes: UnsafeRawBufferPointer) throws {
        guard bytes.count >= IndexHeader.start, bytes.prefix(8).elementsEqual(IndexHeader.magic) else {
            throw MobileCLIPError(.index, "not an index of embeddings (.mcdx)")
        }
        let version = number(bytes, 8)
        guard version == 1 else {
            throw MobileCLIPError(.newer, "the index has version \(version), and this package reads 1: update it")
        }
        let stores: [UInt8: (Index.Store, [IndexFile.Kind])] = [
            1: (.int8, [.int8]), 2: (.float16, [.float16]), 3: (.float32, [.float32]), 4: (.bits, [.bits, .int8]),
            5: (.bitsOnly, [.bits]),
        ]
        (dimension, told) = (Int(number(bytes, 12)), Int(number(bytes, 24)))
        guard let (store, kinds) = stores[bytes[16]], (1...65536).contains(dimension), told <= 1 << 20,
            bytes.count >= IndexHeader.start + told
        else { throw damaged("its header") }
        (self.store, self.kinds) = (store, kinds)
        var head = Array(bytes.prefix(36))
        for place in 28..<32 { head[place] = 0 }
        let sum = head.withUnsafeBytes { Checksum.of($0) }
        guard Checksum.of(part(bytes, IndexHeader.start, told), before: sum) == number(bytes, 28) else { throw damaged("its header") }
        let scale = Float(bitPattern: number(bytes, 32))
        guard scale.isFinite, (scale > 0) == kinds.contains(.int8) else { throw damaged("its scale") }
        self.scale = Double(scale)
        guard let description = try? JSONDecoder().decode(Index.Description.self, from: Data(part(bytes, IndexHeader.start, told)))
        else { throw damaged("its description") }
        guard (1...1000).contains(description.embeddingSpace.unicodeScalars.count) else { throw damaged("its description") }
        self.description = description
        (committed, slot) = try IndexHeader.committed(bytes)
        sequence = long(bytes, slot)
    }

    /// By the slot with the larger sequence whose checksum is right.
    private static func committed(_ bytes: UnsafeRawBufferPointer) throws -> (end: Int, slot: Int) {
        let slots = [64, 96].filter {
            // The largest sequence has no next one: no writer writes it.
            Checksum.of(part(bytes, $0, 28)) == number(bytes, $0 + 28) && (1..<UInt64.max).contains(long(bytes, $0))
        }
        guard let slot = slots.max(by: { long(bytes, $0) < long(bytes, $1) }) else { throw damaged("neither slot is right") }
        let end = long(bytes, slot + 8)
        guard end <= UInt64(bytes.count) else { throw damaged("it is shorter than what was committed") }
        return (Int(end), slot)
    }
}

func damaged(_ what: String) -> MobileCLIPError {
    MobileCLIPError(.index, "the index is damaged: \(what); embed the pictures again")
}

func aligned(_ offset: Int) -> Int { (offset + 63) / 64 * 64 }

func part(_ bytes: UnsafeRawBufferPointer, _ from: Int, _ count: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: bytes[from..<from + count])
}

func number(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> UInt32 {
    UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
}

func long(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> UInt64 {
    UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
}
