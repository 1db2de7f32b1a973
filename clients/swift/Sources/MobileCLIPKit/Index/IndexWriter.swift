import Foundation

/// Adds pictures to an index of int8, as docs/index_format.md has it: an app keeps its own library, and every reader of the
/// format reads it. What was committed before stays whole where the app is killed. One writer at a time, of all processes;
/// it may be used from any task, one call after the other.
public final class IndexWriter: @unchecked Sendable {
    private struct Picture {
        let id: String
        let stamp: UInt64
        let integers: Data
    }

    /// Rows of a block at most: of 512 numbers they take 8 MB.
    private static let atOnce = 1 << 14

    private let mutex = NSLock()
    private let lock: WriterLock
    private let url: URL
    private var handle: FileHandle
    private var file: IndexFile
    private var rowsByID: [String: Int]
    private var added: [Picture] = []
    private var removed: Set<Int> = []

    /// A new index of a model's pictures; a file that is there is replaced.
    /// - Throws: `index` where another writer has it, or the manifest says no `int8Scale`.
    public static func create(at url: URL, manifest: Manifest) throws -> IndexWriter {
        guard let scale = manifest.int8Scale else {
            throw MobileCLIPError(.index, "the manifest says no int8_scale: export the bundle again")
        }
        return try create(
            at: url, embeddingSpace: manifest.embeddingSpace, variant: manifest.variant, dimension: manifest.dimension, scale: scale)
    }

    static func create(at url: URL, embeddingSpace: String, variant: String, dimension: Int, scale: Double) throws -> IndexWriter {
        guard (1...65536).contains(dimension), scale > 0, Float(scale).isFinite else {
            throw MobileCLIPError(.index, "an index of \(dimension) numbers with the scale \(scale) cannot be written")
        }
        let lock = try WriterLock(of: url)
        if FileManager.default.fileExists(atPath: url.path) { _ = try opened(url) }  // of a writer without the lock file
        let told = try JSONEncoder().encode(["embedding_space": embeddingSpace, "variant": variant, "tower": "image"])
        return try IndexWriter(lock, url, try replaced(url, header(told, dimension, Float(scale)), []))
    }

    /// An index that is there. What a writer that was killed left after the committed end is cut off.
    public convenience init(appendingTo url: URL) throws {
        let lock = try WriterLock(of: url)
        try self.init(lock, url, try IndexWriter.opened(url))
    }

    private init(_ lock: WriterLock, _ url: URL, _ handle: FileHandle) throws {
        (self.lock, self.url, self.handle) = (lock, url, handle)
        file = try IndexFile(try handle.readToEnd() ?? Data(), checked: true)
        guard file.store == .int8 else {
            throw MobileCLIPError(.index, "the index stores \(file.store.rawValue), and only int8 is written here: embed it in Python")
        }
        rowsByID = file.rowsByID()
        try handle.truncate(atOffset: UInt64(file.end))
    }

    /// The ids that are there, those that were added and are not committed yet among them.
    public var ids: Set<String> { mutex.withLock { Set(rowsByID.keys) } }

    public func contains(_ id: String) -> Bool { mutex.withLock { rowsByID[id] != nil } }

    /// Adds pictures; nothing is in the file before `commit()`. An id that is there has to be removed first.
    /// - Parameter stamps: one for each picture, which differs if it changed; 0 for none. A file's is what `Index.stamp` of
    ///   an index gives that Python's `embed` wrote.
    public func add(_ pictures: [(id: String, embedding: Embedding)], stamps: [UInt64]? = nil) throws {
        try mutex.withLock {
            guard stamps == nil || stamps?.count == pictures.count else {
                throw MobileCLIPError(.query, "\(stamps?.count ?? 0) stamps for \(pictures.count) pictures: give one for each")
            }
            let new = Set(pictures.map(\.id))
            guard new.count == pictures.count, new.allSatisfy({ rowsByID[$0] == nil }) else {
                throw MobileCLIPError(.index, "an id is there twice: remove its row first")
            }
            let made = try pictures.enumerated().map { place, picture in
                Picture(id: picture.id, stamp: stamps?[place] ?? 0, integers: try integers(picture.embedding))
            }
            for picture in made {
                rowsByID[picture.id] = file.rows + added.count
                added.append(picture)
            }
        }
    }

    private func integers(_ embedding: Embedding) throws -> Data {
        let space = file.description.embeddingSpace
        guard embedding.embeddingSpace == space else {
            throw MobileCLIPError(.space, "the embedding is of \(embedding.embeddingSpace) and the index of \(space): they cannot be compared")
        }
        guard embedding.values.count == file.dimension else {
            throw MobileCLIPError(.space, "the embedding has \(embedding.values.count) numbers and the index \(file.dimension)")
        }
        let scale = Float(file.scale)
        return Data(try unit(embedding.values).map { one in
            UInt8(bitPattern: Int8(max(-127, min(127, (one / scale).rounded(.toNearestOrEven)))))
        })
    }

    /// Removes rows by their numbers, as `Index.Match` has them. Their ids may be added again.
    public func remove(rows gone: [Int]) throws {
        try mutex.withLock {
            guard gone.allSatisfy({ (0..<file.rows + added.count).contains($0) }) else {
                throw MobileCLIPError(.index, "a row is to be removed that is not there")
            }
            for row in gone {
                let id = row < file.rows ? file.id(row) : added[row - file.rows].id
                if rowsByID[id] == row { rowsByID[id] = nil }
                if !file.removed.contains(row) { removed.insert(row) }
            }
        }
    }

    /// Removes pictures by their ids; those that are not there are passed over.
    public func remove(ids: [String]) throws {
        try remove(rows: mutex.withLock { ids.compactMap { rowsByID[$0] } })
    }

    /// Writes what was added and removed: all of it or nothing. The rows of one commit are searched
    /// faster than the same rows of many.
    public func commit() throws {
        try mutex.withLock { try committed() }
    }

    private func committed() throws {
        guard !added.isEmpty || !removed.isEmpty else { return }
        var blocks = IndexWriter.blocks(added)
        if !removed.isEmpty { blocks.append(IndexWriter.gone(removed.sorted())) }
        let content = try wrapping {
            try handle.seek(toOffset: UInt64(file.end))
            for block in blocks { try handle.write(contentsOf: block) }
            let end = Int(try handle.offset())
            try handle.synchronize()
            try handle.seek(toOffset: file.slot == 96 ? 64 : 96)
            try handle.write(contentsOf: IndexWriter.slot(file.sequence + 1, end))
            try handle.synchronize()
            return try Data(contentsOf: url, options: .alwaysMapped)
        }
        try use(content)
    }

    /// Commits, and writes the index again without the rows that are removed and in as few blocks as it takes. Rows get
    /// other numbers.
    /// - Returns: how many rows went.
    @discardableResult public func compact() throws -> Int {
        try mutex.withLock {
            try committed()
            let (present, before) = (file.present, file.rows)
            guard present.count < before || file.blocks.count > before / IndexWriter.atOnce + 1 else { return 0 }
            let pictures = present.lazy.map { [file] row in
                Picture(id: file.id(row), stamp: file.stamp(row), integers: file.integers(row))
            }
            let header = try wrapping { try Data(contentsOf: url, options: .alwaysMapped).prefix(file.start) }
            handle = try IndexWriter.replaced(url, Data(header), pictures)
            try use(try wrapping { try Data(contentsOf: url, options: .alwaysMapped) })
            return before - present.count
        }
    }

    private func use(_ content: Data) throws {
        file = try IndexFile(content, checked: false)
        (rowsByID, added, removed) = (file.rowsByID(), [], [])
    }

    private func wrapping<Value>(_ work: () throws -> Value) throws -> Value { try IndexWriter.wrapping(url, work) }
}

extension IndexWriter {
    private static func wrapping<Value>(_ url: URL, _ work: () throws -> Value) throws -> Value {
        do {
            return try work()
        } catch let error as MobileCLIPError {
            throw error
        } catch {
            throw MobileCLIPError(.index, "\(url.lastPathComponent) cannot be written: \(error.localizedDescription)")
        }
    }

    /// The file, locked as Python locks an index that it appends to.
    private static func opened(_ url: URL) throws -> FileHandle {
        let handle = try wrapping(url) { try FileHandle(forUpdating: url) }
        guard locked(handle.fileDescriptor) else { throw WriterLock.busy(url.lastPathComponent) }
        return handle
    }

    /// A file in the place of `url`, made next to it, with the given rows committed.
    private static func replaced(_ url: URL, _ header: Data, _ pictures: some Collection<Picture>) throws -> FileHandle {
        let made = url.deletingLastPathComponent().appendingPathComponent(".\(url.lastPathComponent).new")
        return try wrapping(url) {
            try Data().write(to: made)
            let handle = try FileHandle(forUpdating: made)
            guard locked(handle.fileDescriptor) else { throw WriterLock.busy(url.lastPathComponent) }
            var header = header
            header.replaceSubrange(64..<128, with: Data(count: 64))
            try handle.write(contentsOf: header)
            var rest = pictures[...]
            while !rest.isEmpty {
                for block in blocks(Array(rest.prefix(atOnce))) { try handle.write(contentsOf: block) }
                rest = rest.dropFirst(atOnce)
            }
            let end = Int(try handle.offset())
            try handle.synchronize()
            try handle.seek(toOffset: 96)
            try handle.write(contentsOf: slot(1, end))
            try handle.synchronize()
            guard rename(made.path, url.path) == 0 else {
                throw MobileCLIPError(.index, "\(url.lastPathComponent) cannot be replaced: \(String(cString: strerror(errno)))")
            }
            try handle.seek(toOffset: 0)
            return handle
        }
    }

    /// What is before the first block, both slots empty.
    private static func header(_ description: Data, _ dimension: Int, _ scale: Float) -> Data {
        var header = Data([0x4D, 0x43, 0x44, 0x58, 0x0D, 0x0A, 0x1A, 0x0A])
        header.append(little: UInt32(1))
        header.append(little: UInt32(dimension))
        header.append(contentsOf: [1, 0, 0, 0, 0, 0, 0, 0])
        header.append(little: UInt32(description.count))
        header.append(little: UInt32(0))
        header.append(little: scale.bitPattern)
        header.replaceSubrange(28..<32, with: Data(little: description.checksum(before: header.checksum())))
        header.append(Data(count: 128 - header.count))
        header.append(description)
        header.pad()
        return header
    }

    private static func blocks(_ pictures: [Picture]) -> [Data] {
        stride(from: 0, to: pictures.count, by: atOnce).map { start in
            let part = pictures[start..<min(start + atOnce, pictures.count)]
            var (body, stamps, ends, names) = (Data(), Data(), Data(), Data())
            for picture in part {
                body.append(picture.integers)
                stamps.append(little: picture.stamp)
                names.append(contentsOf: Array(picture.id.utf8))
                ends.append(little: UInt64(names.count))
            }
            let idBytes = names.count
            body.pad()
            for var array in [stamps, ends, names] {
                array.pad()
                body.append(array)
            }
            return block("ROWS", body, part.count, idBytes)
        }
    }

    private static func gone(_ rows: [Int]) -> Data {
        var body = Data()
        for row in rows { body.append(little: UInt64(row)) }
        body.pad()
        return block("GONE", body, rows.count, 0)
    }

    private static func slot(_ sequence: UInt64, _ end: Int) -> Data {
        var found = Data(little: sequence)
        found.append(little: UInt64(end))
        found.append(Data(count: 12))
        found.append(little: found.checksum())
        return found
    }

    private static func block(_ kind: String, _ body: Data, _ count: Int, _ idBytes: Int) -> Data {
        var found = Data(kind.utf8)
        found.append(little: body.checksum())
        found.append(little: UInt64(64 + body.count))
        found.append(little: UInt64(count))
        found.append(little: UInt64(idBytes))
        found.append(little: found.checksum())
        found.pad()
        found.append(body)
        return found
    }
}

extension Data {
    fileprivate init<Number: FixedWidthInteger>(little number: Number) {
        self = Swift.withUnsafeBytes(of: number.littleEndian) { Data($0) }
    }

    fileprivate mutating func append<Number: FixedWidthInteger>(little number: Number) { append(Data(little: number)) }

    fileprivate mutating func pad() { append(Data(count: aligned(count) - count)) }

    fileprivate func checksum(before: UInt32 = 0) -> UInt32 { withUnsafeBytes { Checksum.of($0, before: before) } }
}
