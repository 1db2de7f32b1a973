import Foundation

// Pillow's resize (ImagingResample, 8 bits a channel) in the very bytes: two passes, weights in fixed point of 22 bits.

private let bits = 22

/// RGB to RGB of another size.
public func resized(
    _ picture: RGBPicture, _ outWidth: Int, _ outHeight: Int, _ interpolation: Preprocess.Interpolation
) -> RGBPicture {
    let (width, height) = (picture.width, picture.height)
    // Since Pillow 13.0 the height comes first where it loses more than twice what the width loses
    // (python-pillow/Pillow#9549).
    if height > outHeight, height - outHeight > 2 * (width - outWidth) {
        let low = down(picture.bytes, width, 0, Weights(height, outHeight, interpolation))
        let bytes = outWidth == width ? low : across(low, width, 0, outHeight, Weights(width, outWidth, interpolation))
        return RGBPicture(checked: bytes, outWidth, outHeight)
    }
    let rows = Weights(height, outHeight, interpolation)
    let (top, bottom) = (rows.first[0], rows.first[outHeight - 1] + rows.count[outHeight - 1])
    let whole = outWidth == width
    let narrow = whole ? picture.bytes : across(picture.bytes, width, top, bottom, Weights(width, outWidth, interpolation))
    let bytes = outHeight == height ? narrow : down(narrow, outWidth, whole ? 0 : top, rows)
    return RGBPicture(checked: bytes, outWidth, outHeight)
}

/// For each of `out` places on an axis of `size` pixels: the first pixel that counts, how many do, and their weights, each
/// place's from a multiple of `most` on.
private struct Weights {
    let out: Int
    let most: Int
    private(set) var first: [Int] = []
    private(set) var count: [Int] = []
    private(set) var factors: [Int32]

    init(_ size: Int, _ out: Int, _ interpolation: Preprocess.Interpolation) {
        let scale = Double(size) / Double(out)
        let stretch = max(scale, 1)
        let support = (interpolation == .bilinear ? 1 : 2) * stretch
        let narrower = 1 / stretch  // a division in its place gives another last bit
        self.out = out
        most = Int(support.rounded(.up)) * 2 + 1
        factors = [Int32](repeating: 0, count: out * most)
        for place in 0..<out {
            let center = (Double(place) + 0.5) * scale
            let start = max(0, Int(center - support + 0.5))
            let end = min(size, Int(center + support + 0.5))
            let found = (start..<end).map { Weights.filter((Double($0) - center + 0.5) * narrower, interpolation) }
            let sum = found.reduce(0, +)
            for (index, one) in found.enumerated() {
                let fixed = one / sum * Double(1 << bits)
                factors[place * most + index] = Int32(fixed < 0 ? fixed - 0.5 : fixed + 0.5)
            }
            first.append(start)
            count.append(end - start)
        }
    }

    private static func filter(_ x: Double, _ interpolation: Preprocess.Interpolation) -> Double {
        let t = abs(x)
        if interpolation == .bilinear { return max(0, 1 - t) }
        // Keys' cubic with a = -0.5, as Pillow has it.
        let a = -0.5
        if t < 1 { return ((a + 2) * t - (a + 3)) * t * t + 1 }
        return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0
    }
}

private func clipped(_ sum: Int32) -> UInt8 { UInt8(truncatingIfNeeded: max(0, min(255, sum >> Int32(bits)))) }

/// [height, width, 3] -> [bottom - top, out, 3]: the rows from `top` to `bottom` alone.
private func across(_ pixels: [UInt8], _ width: Int, _ top: Int, _ bottom: Int, _ weights: Weights) -> [UInt8] {
    let size = (bottom - top) * weights.out * 3
    return [UInt8](unsafeUninitializedCapacity: size) { found, count in
        pixels.withUnsafeBufferPointer { pixels in
            weights.factors.withUnsafeBufferPointer { factors in
                var target = found.baseAddress!
                for y in top..<bottom {
                    let row = pixels.baseAddress! + y * width * 3
                    for place in 0..<weights.out {
                        let own = factors.baseAddress! + place * weights.most
                        var from = row + weights.first[place] * 3
                        var r = Int32(1 << (bits - 1))
                        var (g, b) = (r, r)
                        for index in 0..<weights.count[place] {
                            let factor = own[index]
                            r &+= Int32(from[0]) &* factor
                            g &+= Int32(from[1]) &* factor
                            b &+= Int32(from[2]) &* factor
                            from += 3
                        }
                        (target[0], target[1], target[2]) = (clipped(r), clipped(g), clipped(b))
                        target += 3
                    }
                }
            }
        }
        count = size
    }
}

/// [height, width, 3] -> [out, width, 3]; `top` rows of the whole picture are not among `pixels`.
private func down(_ pixels: [UInt8], _ width: Int, _ top: Int, _ weights: Weights) -> [UInt8] {
    let row = width * 3
    var sums = [Int32](repeating: 0, count: row)
    return [UInt8](unsafeUninitializedCapacity: weights.out * row) { found, count in
        pixels.withUnsafeBufferPointer { pixels in
            sums.withUnsafeMutableBufferPointer { sums in
                for place in 0..<weights.out {
                    sums.update(repeating: 1 << Int32(bits - 1))
                    for index in 0..<weights.count[place] {
                        let factor = weights.factors[place * weights.most + index]
                        let from = pixels.baseAddress! + (weights.first[place] - top + index) * row
                        for x in 0..<row { sums[x] &+= Int32(from[x]) &* factor }
                    }
                    let target = found.baseAddress! + place * row
                    for x in 0..<row { target[x] = clipped(sums[x]) }
                }
            }
        }
        count = weights.out * row
    }
}
