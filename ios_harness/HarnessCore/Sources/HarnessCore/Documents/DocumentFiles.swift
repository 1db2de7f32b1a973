import Foundation

/// What a user can do something about; one line.
public struct HarnessError: Error, CustomStringConvertible, LocalizedError {
    public let description: String

    public init(_ description: String) { self.description = description }

    public var errorDescription: String? { description }
}

/// Documents as text: read strictly, written whole or not at all. Their fields are in snake case, as in the schemas.
public enum DocumentFiles {
    /// - Throws: `HarnessError` that names the field.
    public static func parse<Document: Codable>(_ data: Data, as type: Document.Type, name: String) throws -> Document {
        do {
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            let document = try decoder.decode(type, from: data)
            try refuseUnknown(JSONSerialization.jsonObject(with: data), JSONSerialization.jsonObject(with: text(document)))
            try (document as? Checked)?.check(Rules())
            return document
        } catch let error as DecodingError {
            throw HarnessError("\(name) is no \(type) of schema version 1: \(explain(error))")
        } catch let error as HarnessError {
            throw HarnessError("\(name) is no \(type) of schema version 1: \(error)")
        }
    }

    public static func read<Document: Codable>(_ file: URL, as type: Document.Type) throws -> Document {
        guard let data = try? Data(contentsOf: file) else {
            throw HarnessError("\(file.lastPathComponent) cannot be read; copy the job's folder again")
        }
        return try parse(data, as: type, name: file.lastPathComponent)
    }

    /// One line of JSON, keys in a fixed order.
    public static func text<Document: Encodable>(_ document: Document) throws -> Data {
        let encoder = JSONEncoder()
        // Not .convertToSnakeCase, which is no reverse of its reverse: it makes load_average1_min of loadAverage1Min.
        encoder.keyEncodingStrategy = .custom { path in Field(stringValue: snakeCase(path.last!.stringValue)) }
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(document)
    }

    /// Writes a temporary file next to it, flushes it and renames it: a reader sees all of it or the previous one.
    public static func write<Document: Encodable>(_ document: Document, to file: URL) throws {
        let temporary = file.deletingLastPathComponent()
            .appendingPathComponent(".\(file.lastPathComponent).\(ProcessInfo.processInfo.processIdentifier)")
        let data = try text(document) + Data("\n".utf8)
        guard FileManager.default.createFile(atPath: temporary.path, contents: nil) else {
            throw HarnessError("\(file.lastPathComponent) cannot be written; free some storage")
        }
        let handle = try FileHandle(forWritingTo: temporary)
        try handle.write(contentsOf: data)
        try handle.synchronize()
        try handle.close()
        guard rename(temporary.path, file.path) == 0 else {
            throw HarnessError("\(file.lastPathComponent) cannot be renamed into place (errno \(errno))")
        }
    }

    /// Values that the type has no property for are not written again. A null has no meaning and may occur anywhere.
    private static func refuseUnknown(_ read: Any, _ written: Any?, at place: String = "") throws {
        if let fields = read as? [String: Any] {
            for (name, value) in fields where !(value is NSNull) {
                guard let known = (written as? [String: Any])?[name] else {
                    throw HarnessError("\(place)unknown field \(name)")
                }
                try refuseUnknown(value, known, at: "\(place)\(name): ")
            }
        } else if let items = read as? [Any], let others = written as? [Any] {
            for (item, other) in zip(items, others) where item is [String: Any] { try refuseUnknown(item, other, at: place) }
        }
    }

    /// loadAverage1Min: load_average_1min, a number with its unit; float32Operations: float32_operations; sha256 stays.
    static func snakeCase(_ name: String) -> String {
        name.replacing(#/([0-9]+)Min/#) { "_\($0.1)min" }.replacing(#/[A-Z]/#) { "_" + $0.0.lowercased() }
    }

    private static func explain(_ error: DecodingError) -> String {
        let (path, what): ([CodingKey], String)
        switch error {
        case .keyNotFound(let key, let context): (path, what) = (context.codingPath, "\(snakeCase(key.stringValue)) is missing")
        case .typeMismatch(_, let context): (path, what) = (context.codingPath, context.debugDescription)
        case .valueNotFound(_, let context): (path, what) = (context.codingPath, context.debugDescription)
        case .dataCorrupted(let context): (path, what) = (context.codingPath, context.debugDescription)
        @unknown default: (path, what) = ([], "\(error)")
        }
        let place = path.map { snakeCase($0.stringValue) }.joined(separator: ".")
        let text = place.isEmpty ? what : "\(place): \(what)"
        return text.split(whereSeparator: \.isNewline).joined(separator: " ")
    }
}

private struct Field: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}
