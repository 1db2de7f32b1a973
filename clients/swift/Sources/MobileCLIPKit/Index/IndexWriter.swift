import Foundation

/// Adds pictures to an index of int8, as docs/index_format.md has it: an app keeps its own library, and every reader of the
/// format reads it. What was committed before stays whole where the app is killed. One writer at a time.
public final class IndexWriter {
    private let handle: FileHandle
    private let url: URL
    private let space: String
    private let dimension: Int
    private let scale: Float
    private var ids: Set<String> = []
    private var rows = 0
    /// What was committed last, and of which sequence.
    private var end: Int
    private var sequence: UInt64
    /// Where its slot stands: the other one, at 64 or 96, stays until the next is on the disk.
    private var slot: Int
    private var pending: [Data] = []

    /// A new index; a file that is there is replaced.
    /// - Parameter scale: the manifest's `int8Scale`: an integer times this is a component.
    public static func create(at url: URL, embeddingSpace: String, variant: String, dimension: Int, scale: Double) throws -> IndexWriter {
        guard (1...65536).contains(dimension), scale > 0, Float(scale).isFinite else {
            throw MobileCLIPError(.index, "an index of \(dimension) numbers with the scale \(scale) cannot be written")
        }
        let told = try JSONEncoder().encode(["embedding_space": embeddingSpace, "variant": variant, "tower": "image"])
        var header = Data([0x4D, 0x43, 0x44, 0x58, 0x0D, 0x0A, 0x1A, 0x0A])
        header.append(little: UInt32(1))
        header.append(little: UInt32(dimension))
        header.append(contentsOf: [1, 0, 0, 0, 0, 0, 0, 0])
        header.append(little: UInt32(told.count))
        header.append(little: UInt32(0))
        header.append(little: Float(scale).bitPattern)
        let sum = told.checksum(before: header.checksum())
        header.replaceSubrange(28..<32, with: Data(little: sum))
        header.append(Data(count: 128 - header.count))
        header.append(told)
        header.pad()
        header.replaceSubrange(96..<128, with: slot(1, header.count))
        do {
            try header.write(to: url, options: .atomic)
        } catch {
            throw MobileCLIPError(.index, "\(url.lastPathComponent) cannot be written: \(error.localizedDescription)")
        }
        return try IndexWriter(appendingTo: url)
    }

    /// An index that is there. What a writer that was killed left behind the committed end is cut off.
    public init(appendingTo url: URL) throws {
        do {
            handle = try FileHandle(forUpdating: url)
        } catch {
            throw MobileCLIPError(.index, "\(url.lastPathComponent) cannot be written: \(error.localizedDescription)")
        }
        guard locked(handle.fileDescriptor) else {
            throw MobileCLIPError(.index, "\(url.lastPathComponent) is being written by another writer: wait for it")
        }
        let content = try handle.readToEnd() ?? Data()
        let file = try IndexFile(content, checked: true)
        guard file.store == .int8 else {
            throw MobileCLIPError(.index, "the index stores \(file.store.rawValue), and only int8 is written here: embed it in Python")
        }
        (self.url, space, dimension, scale, rows) = (url, file.description.embeddingSpace, file.dimension, Float(file.scale), file.rows)
        (end, slot) = (file.end, file.slot)
        sequence = content.withUnsafeBytes { long($0, file.slot) }
        for row in 0..<file.rows where !file.removed.contains(row) { ids.insert(file.id(row)) }
        try handle.truncate(atOffset: UInt64(end))
    }

    /// Adds pictures; nothing is in the file before `commit()`. An id that is there has to be removed first.
    public func add(_ pictures: [(id: String, embedding: Embedding)]) throws {
        guard !pictures.isEmpty else { return }
        var integers = Data(capacity: pictures.count * dimension)
        var (ends, names) = (Data(), Data())
        for (id, embedding) in pictures {
            guard embedding.embeddingSpace == space else {
                throw MobileCLIPError(.space, "the embedding is of \(embedding.embeddingSpace) and the index of \(space): they cannot be compared")
            }
            guard embedding.values.count == dimension else {
                throw MobileCLIPError(.space, "the embedding has \(embedding.values.count) numbers and the index \(dimension)")
            }
            for one in try unit(embedding.values) {
                let step = max(-127, min(127, (one / scale).rounded(.toNearestOrEven)))
                integers.append(UInt8(bitPattern: Int8(step)))
            }
            names.append(contentsOf: Array(id.utf8))
            ends.append(little: UInt64(names.count))
        }
        let new = Set(pictures.map(\.id))
        guard new.count == pictures.count, ids.isDisjoint(with: new) else {
            throw MobileCLIPError(.index, "an id is there twice: remove its row first")
        }
        integers.pad()
        var body = integers
        body.append(Data(count: aligned(8 * pictures.count)))  // stamps: nobody asks
        ends.pad()
        body.append(ends)
        let idBytes = names.count
        names.pad()
        body.append(names)
        pending.append(block("ROWS", body, pictures.count, idBytes))
        ids.formUnion(new)
        rows += pictures.count
    }

    /// Removes rows by their numbers, as `Index.Match` has them. Their ids may be added again after `commit()`.
    public func remove(rows gone: [Int]) throws {
        guard !gone.isEmpty else { return }
        guard gone.allSatisfy({ (0..<rows).contains($0) }) else {
            throw MobileCLIPError(.index, "a row is to be removed that is not there")
        }
        var body = Data()
        for row in gone { body.append(little: UInt64(row)) }
        body.pad()
        pending.append(block("GONE", body, gone.count, 0))
    }

    /// Writes what was added and removed: whole, or as if it had not been asked for.
    public func commit() throws {
        guard !pending.isEmpty else { return }
        do {
            try handle.seek(toOffset: UInt64(end))
            let added = pending.reduce(into: Data()) { $0.append($1) }
            try handle.write(contentsOf: added)
            try handle.synchronize()
            try handle.seek(toOffset: slot == 96 ? 64 : 96)
            try handle.write(contentsOf: IndexWriter.slot(sequence + 1, end + added.count))
            try handle.synchronize()
            (sequence, end, slot, pending) = (sequence + 1, end + added.count, slot == 96 ? 64 : 96, [])
        } catch {
            throw MobileCLIPError(.index, "\(url.lastPathComponent) cannot be written: \(error.localizedDescription)")
        }
        let file = try IndexFile(try Data(contentsOf: url, options: .alwaysMapped), checked: false)
        ids = Set((0..<file.rows).filter { !file.removed.contains($0) }.map(file.id))
    }

    private static func slot(_ sequence: UInt64, _ end: Int) -> Data {
        var found = Data(little: sequence)
        found.append(little: UInt64(end))
        found.append(Data(count: 12))
        found.append(little: found.checksum())
        return found
    }

    private func block(_ kind: String, _ body: Data, _ count: Int, _ idBytes: Int) -> Data {
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

/// Keeps other writers out: Swift's and Python's by `flock`; on Linux Java's, too, whose locks are of another kind. Both
/// go with the descriptor; the system drops them with the process.
private func locked(_ descriptor: Int32) -> Bool {
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { return false }
    #if os(Linux)
    var whole = flock()
    whole.l_type = Int16(F_WRLCK)
    let ofDescription: Int32 = 37  // F_OFD_SETLK: not lost when this process closes the file elsewhere
    // A disk that has no such locks has no writer of Java's that takes one either.
    return fcntl(descriptor, ofDescription, &whole) == 0 || (errno != EAGAIN && errno != EACCES)
    #else
    return true
    #endif
}

extension Data {
    fileprivate init<Number: FixedWidthInteger>(little number: Number) {
        self = Swift.withUnsafeBytes(of: number.littleEndian) { Data($0) }
    }

    fileprivate mutating func append<Number: FixedWidthInteger>(little number: Number) { append(Data(little: number)) }

    fileprivate mutating func pad() { append(Data(count: aligned(count) - count)) }

    fileprivate func checksum(before: UInt32 = 0) -> UInt32 { withUnsafeBytes { Checksum.of($0, before: before) } }
}
