import Foundation

/// The bytes of an index: read and checked once, searched in place.
struct IndexFile: Sendable {
    enum Kind: Sendable { case int8, float16, float32, bits }

    struct Block: Sendable {
        let first: Int
        let count: Int
        /// Where each array begins, in the order of `kinds`; then the stamps, the ends of the ids and the ids themselves.
        let arrays: [Int]
        let stamps: Int
        let ends: Int
        let ids: Int
    }

    static let rescored = 50
    private static let description = 128
    private static let mostDescription = 1 << 20

    let dimension: Int
    let store: Index.Store
    let kinds: [Kind]
    let scale: Double
    let description: Index.Description
    private(set) var blocks: [Block] = []
    private(set) var removed: Set<Int> = []
    private(set) var rows = 0
    /// Where the first block begins.
    let start: Int
    /// The committed end.
    let end: Int
    /// The offset of the slot that says so, and its sequence.
    let slot: Int
    let sequence: UInt64
    private let data: Data

    init(_ data: Data, checked: Bool) throws {
        self.data = data
        let header = try data.withUnsafeBytes { try IndexHeader($0) }
        (dimension, store, kinds, scale) = (header.dimension, header.store, header.kinds, header.scale)
        description = header.description
        let (start, end) = (aligned(IndexFile.description + header.told), header.committed)
        (self.start, self.end, slot, sequence) = (start, end, header.slot, header.sequence)
        guard end >= start else { throw damaged("its committed end") }
        try data.withUnsafeBytes { bytes in
            var at = start
            while at < end { at = try read(bytes, at, end, checked) }
        }
    }

    private mutating func read(_ bytes: UnsafeRawBufferPointer, _ at: Int, _ end: Int, _ checked: Bool) throws -> Int {
        guard at + 64 <= end else { throw damaged("a block is cut") }
        guard Checksum.of(part(bytes, at, 32)) == number(bytes, at + 32) else { throw damaged("a block's head") }
        let (size, count, idBytes) = (long(bytes, at + 8), long(bytes, at + 16), long(bytes, at + 24))
        // None is larger than the file: what is computed of them cannot overflow.
        guard size >= 64, size <= UInt64(end - at), count <= size, idBytes <= size else { throw damaged("a block is cut") }
        if checked, Checksum.of(part(bytes, at + 64, Int(size) - 64)) != number(bytes, at + 4) { throw damaged("a block's body") }
        switch String(decoding: part(bytes, at, 4), as: UTF8.self) {
        case "GONE": try remove(bytes, at + 64, Int(count), Int(size))
        case "ROWS": try add(bytes, at + 64, Int(count), Int(idBytes), Int(size))
        case let kind: throw damaged("a block of kind \(kind)")
        }
        return at + Int(size)
    }

    private mutating func remove(_ bytes: UnsafeRawBufferPointer, _ at: Int, _ count: Int, _ size: Int) throws {
        guard size == 64 + aligned(8 * count) else { throw damaged("a block's size") }
        for place in 0..<count {
            let row = long(bytes, at + 8 * place)
            guard row < UInt64(rows) else { throw damaged("a row is removed that is not there") }
            removed.insert(Int(row))
        }
    }

    private mutating func add(_ bytes: UnsafeRawBufferPointer, _ at: Int, _ count: Int, _ idBytes: Int, _ size: Int) throws {
        var arrays: [Int] = []
        var place = at
        for kind in kinds {
            arrays.append(place)
            let (length, overflow) = count.multipliedReportingOverflow(by: width(kind))
            guard !overflow, length <= size else { throw damaged("a block's size") }
            place = aligned(place + length)
        }
        let (stamps, ends) = (place, aligned(place + 8 * count))
        let ids = aligned(ends + 8 * count)
        guard size == 64 + aligned(ids + idBytes) - at else { throw damaged("a block's size") }
        var before: UInt64 = 0
        for row in 0..<count {
            let next = long(bytes, ends + 8 * row)
            guard next >= before, next <= UInt64(idBytes) else { throw damaged("ids do not fit their block") }
            before = next
        }
        guard count == 0 || before == UInt64(idBytes) else { throw damaged("ids do not fit their block") }
        blocks.append(Block(first: rows, count: count, arrays: arrays, stamps: stamps, ends: ends, ids: ids))
        rows += count
    }

    /// Bytes of an embedding in an array.
    private func width(_ kind: Kind) -> Int {
        switch kind {
        case .int8: return dimension
        case .float16: return 2 * dimension
        case .float32: return 4 * dimension
        case .bits: return (dimension + 7) / 8
        }
    }

    /// The block of a row that is in the file: the last that begins at it or before.
    private func block(_ row: Int) -> Block {
        var (low, high) = (0, blocks.count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if blocks[middle].first <= row { low = middle } else { high = middle }
        }
        return blocks[low]
    }

    /// The rows that are not removed, in ascending order.
    var present: [Int] { (0..<rows).filter { !removed.contains($0) } }

    func stamp(_ row: Int) -> UInt64 {
        let block = block(row)
        return data.withUnsafeBytes { long($0, block.stamps + 8 * (row - block.first)) }
    }

    /// The stored integers of a row of an index of int8.
    func integers(_ row: Int) -> Data {
        let block = block(row)
        let from = block.arrays[0] + (row - block.first) * dimension
        return data.subdata(in: from..<from + dimension)
    }

    func id(_ row: Int) -> String {
        let block = block(row)
        let own = row - block.first
        return data.withUnsafeBytes { bytes in
            let from = own == 0 ? 0 : Int(long(bytes, block.ends + 8 * (own - 1)))
            let to = Int(long(bytes, block.ends + 8 * own))
            return String(decoding: part(bytes, block.ids + from, to - from), as: UTF8.self)
        }
    }

    /// Rows and scores of a query of length 1.
    func search(_ vector: [Float], _ top: Int) throws -> [(row: Int, score: Double)] {
        let query = RoundedQuery(vector)
        let twice = kinds.count == 2
        let top = min(top, rows)
        var best = Best(twice ? max(IndexFile.rescored, 5 * top) : top)
        var memory = Memory(kinds[0] == .bits ? signTable(query.integers) : [], dimension)
        try data.withUnsafeBytes { bytes in
            for block in blocks { try score(bytes, block, vector, query, &memory, &best) }
        }
        let factor: Double
        switch kinds[0] {
        case .int8: factor = query.scale * scale
        case .bits: factor = twice ? query.scale * scale : query.scale / Double(dimension).squareRoot()
        case .float16, .float32: factor = 1
        }
        let found = twice ? Array(again(best.sorted(), query).prefix(top)) : best.sorted()
        return found.map { ($0.row, $0.score * factor) }
    }

    private static let chunk = 1 << 12

    /// What all blocks of a search share.
    private struct Memory {
        let table: [Int32]
        var sums = [Int32](repeating: 0, count: IndexFile.chunk)
        var wide: [Float]

        init(_ table: [Int32], _ dimension: Int) { (self.table, wide) = (table, [Float](repeating: 0, count: dimension)) }
    }

    private func score(
        _ bytes: UnsafeRawBufferPointer, _ block: Block, _ vector: [Float], _ query: RoundedQuery, _ memory: inout Memory,
        _ best: inout Best
    ) throws {
        let base = bytes.baseAddress! + block.arrays[0]
        for start in stride(from: 0, to: block.count, by: IndexFile.chunk) {
            let count = min(IndexFile.chunk, block.count - start)
            let own = base + start * width(kinds[0])
            switch kinds[0] {
            case .int8:
                integerProducts(own.assumingMemoryBound(to: Int8.self), query.wide, count, &memory.sums)
                take(memory.sums, count, block.first + start, &best)
            case .bits:
                let wide = width(.bits)
                memory.table.withUnsafeBufferPointer { table in
                    for row in 0..<count {
                        let bits = (own + row * wide).assumingMemoryBound(to: UInt8.self)
                        var sum: Int32 = 0
                        for byte in 0..<wide { sum &+= table[256 * byte + Int(bits[byte])] }
                        memory.sums[row] = sum
                    }
                }
                take(memory.sums, count, block.first + start, &best)
            case .float32:
                for row in 0..<count {
                    let values = (own + 4 * row * dimension).assumingMemoryBound(to: Float.self)
                    add(try finite(products(values, vector, dimension)), block.first + start + row, &best)
                }
            case .float16:
                for row in 0..<count {
                    widened((own + 2 * row * dimension).assumingMemoryBound(to: UInt16.self), &memory.wide, dimension)
                    add(try finite(products(memory.wide, vector, dimension)), block.first + start + row, &best)
                }
            }
        }
    }

    private func finite(_ score: Float) throws -> Double {
        guard score.isFinite else { throw damaged("an embedding that is not finite") }
        return Double(score)
    }

    private func take(_ sums: [Int32], _ count: Int, _ first: Int, _ best: inout Best) {
        for row in 0..<count { add(Double(sums[row]), first + row, &best) }
    }

    @inline(__always)
    private func add(_ score: Double, _ row: Int, _ best: inout Best) {
        if score > best.least, removed.isEmpty || !removed.contains(row) { best.add(row, score) }
    }

    /// What sign bits proposed, by their integers.
    private func again(_ proposed: [Best.Entry], _ query: RoundedQuery) -> [Best.Entry] {
        let found = data.withUnsafeBytes { bytes in
            proposed.map { entry in
                let block = block(entry.row)
                let own = bytes.baseAddress! + block.arrays[1] + (entry.row - block.first) * dimension
                var sum: Int32 = 0
                integerProducts(own.assumingMemoryBound(to: Int8.self), query.wide, 1, &sum)
                return Best.Entry(row: entry.row, score: Double(sum))
            }
        }
        return found.sorted { $1 < $0 }
    }
}

/// The largest scores so far, in a heap whose first is the least: of equal scores the higher row is less.
struct Best {
    struct Entry: Comparable, Sendable {
        let row: Int
        let score: Double
        static func < (one: Entry, other: Entry) -> Bool {
            one.score < other.score || (one.score == other.score && one.row > other.row)
        }
    }

    private let top: Int
    private var heap: [Entry] = []
    private(set) var least = -Double.infinity

    init(_ top: Int) { self.top = top }

    mutating func add(_ row: Int, _ score: Double) {
        let entry = Entry(row: row, score: score)
        if heap.count < top {
            heap.append(entry)
            var at = heap.count - 1
            while at > 0, heap[at] < heap[(at - 1) / 2] {
                heap.swapAt(at, (at - 1) / 2)
                at = (at - 1) / 2
            }
        } else if top > 0 {
            heap[0] = entry
            var at = 0
            while 2 * at + 1 < heap.count {
                var below = 2 * at + 1
                if below + 1 < heap.count, heap[below + 1] < heap[below] { below += 1 }
                if !(heap[below] < heap[at]) { break }
                heap.swapAt(at, below)
                at = below
            }
        }
        if heap.count == top, top > 0 { least = heap[0].score }
    }

    func sorted() -> [Entry] { heap.sorted { $1 < $0 } }
}
