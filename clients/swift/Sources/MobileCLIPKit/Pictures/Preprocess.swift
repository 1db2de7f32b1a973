import Foundation

/// How a picture becomes a tower's input, as the manifest says it.
public struct Preprocess: Decodable, Sendable, Equatable {
    public enum Resize: String, Decodable, Sendable {
        case shorterSide = "shorter_side"
        case squash
    }
    public enum Crop: String, Decodable, Sendable { case center, none }
    public enum Interpolation: String, Decodable, Sendable { case bilinear, bicubic }

    public let size: Int
    public let resize: Resize
    public let crop: Crop
    public let interpolation: Interpolation
    /// The share of the resized picture that the crop keeps; nil: all of it.
    public let cropFraction: Double?

    enum CodingKeys: String, CodingKey {
        case size, resize, crop, interpolation
        case cropFraction = "crop_fraction"
    }
}

extension Preprocess {
    /// What Python refuses too: more pixels than that after resizing.
    private static let mostPixels = 100_000_000

    /// Upright RGB to the tower's bytes [S, S, 3], row by row: Pillow's, to the bit.
    public func bytes(_ picture: RGBPicture) throws -> [UInt8] {
        let (width, height) = (picture.width, picture.height)
        let side = cropFraction.map { Int((Double(size) / $0).rounded(.down)) } ?? size
        var (outWidth, outHeight) = (side, side)
        if resize == .shorterSide {
            let longer = Int(Double(side) * Double(max(width, height)) / Double(min(width, height)))
            (outWidth, outHeight) = width <= height ? (side, longer) : (longer, side)
        }
        guard outWidth * outHeight <= Preprocess.mostPixels else {
            throw MobileCLIPError(.picture, "\(width) x \(height) pixels: too elongated; crop the picture first")
        }
        guard crop == .center || outWidth == outHeight else {
            throw MobileCLIPError(.picture, "\(width) x \(height) pixels: this network takes square pictures")
        }
        let small = resized(picture, outWidth, outHeight, interpolation)
        // Python rounds halves to even.
        let left = Int((Double(outWidth - size) / 2).rounded(.toNearestOrEven))
        let top = Int((Double(outHeight - size) / 2).rounded(.toNearestOrEven))
        if outWidth == size && outHeight == size { return small.bytes }
        var found: [UInt8] = []
        found.reserveCapacity(3 * size * size)
        for y in top..<top + size {
            let row = 3 * (y * outWidth + left)
            found += small.bytes[row..<row + 3 * size]
        }
        return found
    }

    /// The same as float32 planes [3, S, S] in [0, 1].
    public func pixels(_ picture: RGBPicture) throws -> [Float] {
        let bytes = try bytes(picture)
        let plane = size * size
        return [Float](unsafeUninitializedCapacity: 3 * plane) { found, count in
            for place in 0..<plane {
                for channel in 0..<3 { found[channel * plane + place] = Float(bytes[3 * place + channel]) / 255 }
            }
            count = 3 * plane
        }
    }
}
