import Foundation

/// The fields of one JSON object. One that the type does not know is an error, as in the published schema.
struct Fields<Key: CodingKey & CaseIterable> {
    private let container: KeyedDecodingContainer<Key>

    init(_ decoder: Decoder, _ keys: Key.Type) throws {
        let everything = try decoder.container(keyedBy: AnyKey.self)
        let known = Set(Key.allCases.map(\.stringValue))
        if let unknown = everything.allKeys.first(where: { !known.contains($0.stringValue) }) {
            throw DecodingError.dataCorruptedError(
                forKey: unknown, in: everything, debugDescription: "unknown field \(unknown.stringValue)")
        }
        container = try decoder.container(keyedBy: Key.self)
    }

    func required<Value: Decodable>(_ key: Key) throws -> Value {
        try container.decode(Value.self, forKey: key)
    }

    /// May be null or absent.
    func optional<Value: Decodable>(_ key: Key) throws -> Value? {
        try container.decodeIfPresent(Value.self, forKey: key)
    }

    /// May be absent, but not null.
    func defaulted<Value: Decodable>(_ key: Key, to value: Value) throws -> Value {
        container.contains(key) ? try container.decode(Value.self, forKey: key) : value
    }

    /// A whole number in `range`.
    func count(_ key: Key, in range: ClosedRange<Int> = anyCount) throws -> Int {
        try check(required(key), key, range)
    }

    /// A whole number, null or absent.
    func optionalCount(_ key: Key) throws -> Int? {
        let value: Int? = try optional(key)
        return try value.map { try check($0, key, anyCount) }
    }

    func counts(_ key: Key, from minimum: Int = 0) throws -> [Int] {
        let values: [Int] = try required(key)
        return try values.map { try check($0, key, minimum...largestCount) }
    }

    func defaultedCounts(_ key: Key) throws -> [Int] {
        try defaulted(key, to: [Int]()).map { try check($0, key, anyCount) }
    }

    /// Text of a form, see `TextForm`.
    func text(_ key: Key, _ form: TextForm) throws -> String {
        let value: String = try required(key)
        return try ensure(form.holds(value), value, key, "is no \(form.rawValue)")
    }

    func number(_ key: Key, _ what: String, where holds: (Double) -> Bool) throws -> Double {
        let value: Double = try required(key)
        return try ensure(holds(value), value, key, "must be \(what)")
    }

    func ensure<Value>(_ holds: Bool, _ value: Value, _ key: Key, _ complaint: String) throws -> Value {
        guard holds else {
            throw DecodingError.dataCorruptedError(
                forKey: key, in: container, debugDescription: "\(key.stringValue) \(complaint)")
        }
        return value
    }

    private func check(_ value: Int, _ key: Key, _ range: ClosedRange<Int>) throws -> Int {
        try ensure(range.contains(value), value, key, "must be in \(range.lowerBound)...\(range.upperBound)")
    }
}

/// The largest whole number that every language's JSON reader keeps exactly.
let largestCount = (1 << 53) - 1
let anyCount = 0...largestCount

/// Names that are safe in file systems and shells; docs/benchmark.md.
enum TextForm: String {
    case identifier
    case path = "relative path"
    case sha256 = "SHA-256"

    func holds(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        switch self {
        case .identifier:
            return bytes.count <= 120 && TextForm.isName(bytes[...], start: TextForm.isLetterOrDigit)
        case .path:
            return bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy {
                TextForm.isName($0, start: { TextForm.isLetterOrDigit($0) || $0 == UInt8(ascii: "_") })
            }
        case .sha256:
            return bytes.count == 64 && bytes.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
        }
    }

    private static func isName(_ bytes: ArraySlice<UInt8>, start: (UInt8) -> Bool) -> Bool {
        guard let first = bytes.first, start(first) else { return false }
        return bytes.allSatisfy { isLetterOrDigit($0) || Array("._+-".utf8).contains($0) }
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
    }
}

private struct AnyKey: CodingKey {
    let stringValue: String
    let intValue: Int? = nil

    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}
