import Foundation

/// A vector scaled to length 1. NaN, infinite numbers and length 0 are refused.
public func unit(_ values: [Float]) throws -> [Float] {
    let sum = values.reduce(0.0) { $0 + Double($1) * Double($1) }
    guard sum.isFinite, sum > 0 else {
        throw MobileCLIPError(.query, "an embedding holds NaN or infinite numbers, or has length 0")
    }
    let length = sum.squareRoot()
    return values.map { Float(Double($0) / length) }
}

func dot(_ one: [Float], _ other: [Float]) -> Double {
    zip(one, other).reduce(0) { $0 + Double($1.0) * Double($1.1) }
}

/// The probability of each label: softmax of `scale` times the cosines; with a `bias` the sigmoid of each, and of it.
func probabilities(_ embedding: [Float], _ labels: [[Float]], _ scale: Double, _ bias: Double?) -> [Double] {
    let logits = labels.map { scale * dot(embedding, $0) }
    if let bias { return logits.map { 1 / (1 + exp(-$0 - bias)) } }
    return softmax(logits)
}

func softmax(_ logits: [Double]) -> [Double] {
    let top = logits.max() ?? 0
    let shares = logits.map { exp($0 - top) }
    let sum = shares.reduce(0, +)
    return shares.map { $0 / sum }
}

/// A query as int8 integers, by the scale that lets its largest component be 127; halves to the even neighbour.
struct RoundedQuery {
    let integers: [Int8]
    let wide: [Int16]
    let scale: Double

    init(_ vector: [Float]) {
        scale = Double(vector.reduce(0) { max($0, abs($1)) }) / 127
        let step = Float(scale)
        integers = vector.map { Int8(max(-127, min(127, ($0 / step).rounded(.toNearestOrEven)))) }
        wide = integers.map(Int16.init)
    }
}

/// Sums of products of each row (int8 [count, width]) with the query (int8 [width]). The compiler writes this loop with
/// the processor's vectors: products of 16 bits, summed in 32, which hold the largest dimension's.
func integerProducts(_ rows: UnsafePointer<Int8>, _ query: [Int8], _ count: Int, _ found: UnsafeMutablePointer<Int32>) {
    integerProducts(rows, query.map(Int16.init), count, found)
}

/// The same of a query that was widened before.
func integerProducts(_ rows: UnsafePointer<Int8>, _ wide: [Int16], _ count: Int, _ found: UnsafeMutablePointer<Int32>) {
    let width = wide.count
    wide.withUnsafeBufferPointer { query in
        for row in 0..<count {
            let own = rows + row * width
            var sum: Int32 = 0
            for index in 0..<width { sum = sum &+ Int32(own[index]) &* Int32(query[index]) }
            found[row] = sum
        }
    }
}

/// The same of floats, in float32: eight sums at once, in an order that never changes.
func products(_ row: UnsafePointer<Float>, _ query: UnsafePointer<Float>, _ width: Int) -> Float {
    var sums = SIMD8<Float>(repeating: 0)
    var index = 0
    while index + 8 <= width {
        let (a, b) = (UnsafeRawPointer(row + index), UnsafeRawPointer(query + index))
        sums += a.loadUnaligned(as: SIMD8<Float>.self) * b.loadUnaligned(as: SIMD8<Float>.self)
        index += 8
    }
    var sum = sums.sum()
    while index < width {
        sum += row[index] * query[index]
        index += 1
    }
    return sum
}

/// float16 (IEEE 754 binary16) to float32: the exponent's bias is made up by a product, which is exact. NaN becomes infinity.
func widened(_ row: UnsafePointer<UInt16>, _ found: UnsafeMutablePointer<Float>, _ width: Int) {
    for index in 0..<width {
        let half = UInt32(row[index])
        let product = Float(bitPattern: (half & 0x7FFF) << 13) * 0x1p112
        let magnitude = product > 65504 ? .infinity : product  // the largest float16
        found[index] = half & 0x8000 == 0 ? magnitude : -magnitude
    }
}

/// The sums of a query's integers, each with the sign that a bit says, of every value of every byte: [bytes * 256].
func signTable(_ query: [Int8]) -> [Int32] {
    let bytes = (query.count + 7) / 8
    var table = [Int32](repeating: 0, count: bytes * 256)
    for byte in 0..<bytes {
        let own = query[8 * byte..<min(8 * byte + 8, query.count)].map(Int32.init)
        for value in 0..<256 {
            table[256 * byte + value] = own.enumerated().reduce(0) { $0 + ((value >> $1.offset) & 1 == 1 ? $1.element : -$1.element) }
        }
    }
    return table
}
