import Foundation

/// CRC-32 as zlib has it, eight bytes at a time.
enum Checksum {
    private static let tables: [[UInt32]] = {
        var found = [[UInt32]](repeating: [UInt32](repeating: 0, count: 256), count: 8)
        for byte in 0..<256 {
            var value = UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1 }
            found[0][byte] = value
        }
        for table in 1..<8 {
            for byte in 0..<256 {
                let before = found[table - 1][byte]
                found[table][byte] = (before >> 8) ^ found[0][Int(before & 255)]
            }
        }
        return found
    }()
    private static let flat: [UInt32] = tables.flatMap { $0 }

    static func of(_ bytes: UnsafeRawBufferPointer, before: UInt32 = 0) -> UInt32 {
        var value = ~before
        var index = 0
        flat.withUnsafeBufferPointer { table in
            while index + 8 <= bytes.count {
                let low = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt32.self)) ^ value
                let high = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index + 4, as: UInt32.self))
                let one = table[1792 + Int(low & 255)] ^ table[1536 + Int(low >> 8 & 255)]
                let two = table[1280 + Int(low >> 16 & 255)] ^ table[1024 + Int(low >> 24)]
                let three = table[768 + Int(high & 255)] ^ table[512 + Int(high >> 8 & 255)]
                value = one ^ two ^ three ^ table[256 + Int(high >> 16 & 255)] ^ table[Int(high >> 24)]
                index += 8
            }
            while index < bytes.count {
                value = table[Int((value ^ UInt32(bytes[index])) & 255)] ^ (value >> 8)
                index += 1
            }
        }
        return ~value
    }
}
