import Foundation

/// What a user can do something about; one line.
public struct HarnessError: Error, CustomStringConvertible, LocalizedError {
    public let description: String

    public init(_ description: String) { self.description = description }

    public var errorDescription: String? { description }
}

/// Jobs and results as text: read strictly, written whole or not at all.
public enum DocumentFiles {
    /// - Throws: `HarnessError` that names the field.
    public static func parse<Document: Decodable>(_ data: Data, as type: Document.Type, name: String) throws -> Document {
        do {
            return try JSONDecoder().decode(type, from: data)
        } catch let error as DecodingError {
            throw HarnessError("\(name) is no \(type) of schema version 1: \(explain(error))")
        }
    }

    public static func read<Document: Decodable>(_ file: URL, as type: Document.Type) throws -> Document {
        guard let data = try? Data(contentsOf: file) else {
            throw HarnessError("\(file.lastPathComponent) cannot be read; copy the job's folder again")
        }
        return try parse(data, as: type, name: file.lastPathComponent)
    }

    /// One line of JSON, keys in a fixed order.
    public static func text<Document: Encodable>(_ document: Document) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(document)
    }

    /// Written beside its place, flushed to the disk and renamed: a reader sees all of it or the one before.
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

    private static func explain(_ error: DecodingError) -> String {
        let (path, what): ([CodingKey], String)
        switch error {
        case .keyNotFound(let key, let context): (path, what) = (context.codingPath, "\(key.stringValue) is missing")
        case .typeMismatch(_, let context): (path, what) = (context.codingPath, context.debugDescription)
        case .valueNotFound(_, let context): (path, what) = (context.codingPath, context.debugDescription)
        case .dataCorrupted(let context): (path, what) = (context.codingPath, context.debugDescription)
        @unknown default: (path, what) = ([], "\(error)")
        }
        let place = path.map(\.stringValue).joined(separator: ".")
        let text = place.isEmpty ? what : "\(place): \(what)"
        return text.split(whereSeparator: \.isNewline).joined(separator: " ")
    }
}
