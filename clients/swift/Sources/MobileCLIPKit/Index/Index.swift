import Foundation

/// A library's ids and embeddings in one file (.mcdx, docs/index_format.md), mapped into memory and searched exactly. It
/// shows what was committed when it was opened; whoever appends to the file later changes nothing here.
public struct Index: Sendable {
    public struct Match: Sendable, Equatable {
        public let id: String
        public let row: Int
        public let score: Double
    }

    public struct Description: Decodable, Sendable {
        public let embeddingSpace: String
        public let variant: String
        /// Nil of an index that was written before texts could be in one: images.
        public let tower: Tower?
        public let bridgedFrom: String?

        enum CodingKeys: String, CodingKey {
            case variant, tower
            case embeddingSpace = "embedding_space"
            case bridgedFrom = "bridged_from"
        }
    }

    /// As `embed --store` names them.
    public enum Store: String, Sendable { case int8, float16, float32, bits, bitsOnly = "bits-only" }

    /// Numbers of an embedding.
    public let dimension: Int
    public let store: Store
    public let description: Description
    /// Rows that are there.
    public let count: Int
    public var embeddingSpace: String { description.embeddingSpace }

    /// The numbers of the rows that are there, in ascending order.
    public var rows: [Int] { file.present }
    /// Their ids, in the same order.
    public var ids: [String] { file.present.map(file.id) }

    private let file: IndexFile
    private let lookup: Lookup

    /// - Parameter checked: whether every byte is read and held to its checksum. Without, only heads are: opening takes no
    ///   time, and a byte that was changed in an embedding is not seen.
    /// - Throws: `index` where it is none or damaged, `newer` where a newer version wrote it.
    public init(contentsOf url: URL, checked: Bool = true) throws {
        let content: Data
        do {
            content = try Data(contentsOf: url, options: .alwaysMapped)
        } catch {
            throw MobileCLIPError(.index, "\(url.lastPathComponent) cannot be read: \(error.localizedDescription)")
        }
        try self.init(content, checked: checked)
    }

    public init(_ content: Data, checked: Bool = true) throws {
        file = try IndexFile(content.startIndex == 0 ? content : Data(content), checked: checked)
        (dimension, store, description) = (file.dimension, file.store, file.description)
        count = file.rows - file.removed.count
        lookup = Lookup(file)
    }

    /// The id of a row.
    /// - Throws: `index` where there is no such row.
    public func id(_ row: Int) throws -> String {
        try check(row)
        return file.id(row)
    }

    /// The stamp of a row, which differs if a picture has changed since it was embedded; 0 where its writer gave none.
    /// - Throws: `index` where there is no such row.
    public func stamp(_ row: Int) throws -> UInt64 {
        try check(row)
        return file.stamp(row)
    }

    /// The row of an id; nil where it is not in the index.
    public func row(of id: String) -> Int? { lookup.rows[id] }

    public func contains(_ id: String) -> Bool { lookup.rows[id] != nil }

    private func check(_ row: Int) throws {
        guard (0..<file.rows).contains(row) else { throw MobileCLIPError(.index, "the index has no row \(row): it has \(file.rows)") }
    }

    /// The `top` nearest, the best first; of equal scores the lower row.
    ///
    /// - Throws: `space` where the query is of another, `query` where it is none.
    public func search(_ query: some Embedded, top: Int = 10) throws -> [Match] {
        guard query.embeddingSpace == embeddingSpace else {
            throw MobileCLIPError(
                .space, "the query is of \(query.embeddingSpace) and the index of \(embeddingSpace): they cannot be compared")
        }
        return try search(values: query.values, top: top)
    }

    /// The same of plain numbers, where the app has checked the space.
    public func search(values: [Float], top: Int = 10) throws -> [Match] {
        guard values.count == dimension else {
            throw MobileCLIPError(.space, "the query has \(values.count) numbers and the index \(dimension)")
        }
        guard top > 0 else { throw MobileCLIPError(.query, "the nearest \(top) are asked for: ask for 1 at least") }
        return try file.search(try unit(values), top).map { Match(id: file.id($0.row), row: $0.row, score: $0.score) }
    }
}

/// Rows by id, built at the first use.
private final class Lookup: @unchecked Sendable {
    private let file: IndexFile
    private let lock = NSLock()
    private var found: [String: Int]?

    init(_ file: IndexFile) { self.file = file }

    var rows: [String: Int] {
        lock.withLock {
            if let found { return found }
            let made = file.rowsByID()
            found = made
            return made
        }
    }
}

extension IndexFile {
    /// Rows that are there, by id; of an id that is there twice the later one.
    func rowsByID() -> [String: Int] { Dictionary(present.map { (id($0), $0) }, uniquingKeysWith: { $1 }) }
}
