import Foundation

/// Upright pixels, red, green, blue, row by row: what every client makes of a picture before it resizes it.
public struct RGBPicture: Sendable, Equatable {
    public let bytes: [UInt8]
    public let width: Int
    public let height: Int

    init(checked bytes: [UInt8], _ width: Int, _ height: Int) {
        (self.bytes, self.width, self.height) = (bytes, width, height)
    }
}

/// Gives its pixels on demand: a picture in memory, a file, a `CGImage`, a `CVPixelBuffer`.
public protocol PictureSource {
    func picture() throws -> Picture
}

/// Pixels as a decoder or a camera gives them. What becomes of each layout is the same in every language
/// (clients/vectors/pictures.json): colours as they are stored, an embedded profile (Display P3, say) is ignored, as the
/// networks' training did; transparent pixels are drawn on white.
public struct Picture: PictureSource, Sendable {
    public enum Layout: String, Sendable, CaseIterable {
        case rgb, rgba, bgra, grey
        /// 16 bits a channel, the lower byte first.
        case grey16, rgb16
        case cmyk
        /// Y, Cb, Cr of each pixel.
        case ycbcr
        /// A plane of Y, then pairs of Cb and Cr, each for two by two pixels: `420YpCbCr8BiPlanar`.
        case nv12
    }
    public enum Matrix: String, Sendable, CaseIterable { case bt601, bt709 }
    /// `full`: 0 to 255; `video`: luma 16 to 235, chroma 16 to 240.
    public enum Range: String, Sendable, CaseIterable { case full, video }

    public let bytes: [UInt8]
    public let width: Int
    public let height: Int
    public let layout: Layout
    /// EXIF's, 1 to 8; every other number means 1.
    public let orientation: Int
    public let matrix: Matrix
    public let range: Range

    /// - Parameter matrix: of `ycbcr` and `nv12`, as `range`.
    public init(
        bytes: [UInt8], width: Int, height: Int, layout: Layout = .rgb, orientation: Int = 1, matrix: Matrix = .bt601,
        range: Range = .full
    ) {
        (self.bytes, self.width, self.height, self.layout) = (bytes, width, height, layout)
        (self.orientation, self.matrix, self.range) = (orientation, matrix, range)
    }

    public func picture() -> Picture { self }

    private static let mostPixels = 250_000_000

    /// How many bytes a picture of this layout has.
    static func size(_ layout: Layout, _ width: Int, _ height: Int) -> Int {
        switch layout {
        case .grey: return width * height
        case .grey16: return 2 * width * height
        case .rgb, .ycbcr: return 3 * width * height
        case .rgba, .bgra, .cmyk: return 4 * width * height
        case .rgb16: return 6 * width * height
        case .nv12: return width * height + 2 * ((width + 1) / 2) * ((height + 1) / 2)
        }
    }

    /// Upright RGB.
    public func rgb() throws -> RGBPicture {
        guard width > 0, height > 0, width <= Picture.mostPixels / height, bytes.count == Picture.size(layout, width, height) else {
            throw MobileCLIPError(.picture, "\(bytes.count) bytes are no picture of \(width) x \(height) in the layout \(layout.rawValue)")
        }
        return upright(RGBPicture(checked: layout == .rgb ? bytes : converted(), width, height), orientation)
    }
}

/// As EXIF's orientation says that the picture is to be turned.
private func upright(_ picture: RGBPicture, _ orientation: Int) -> RGBPicture {
    guard (2...8).contains(orientation) else { return picture }
    let (width, height) = (picture.width, picture.height)
    let turned = orientation >= 5
    let (outWidth, outHeight) = turned ? (height, width) : (width, height)
    let bytes = [UInt8](unsafeUninitializedCapacity: picture.bytes.count) { found, count in
        picture.bytes.withUnsafeBufferPointer { source in
            for y in 0..<outHeight {
                for x in 0..<outWidth {
                    let (mirroredX, mirroredY) = (outWidth - 1 - x, outHeight - 1 - y)
                    let (fromX, fromY): (Int, Int)
                    switch orientation {
                    case 2: (fromX, fromY) = (mirroredX, y)
                    case 3: (fromX, fromY) = (mirroredX, mirroredY)
                    case 4: (fromX, fromY) = (x, mirroredY)
                    case 5: (fromX, fromY) = (y, x)
                    case 6: (fromX, fromY) = (y, mirroredX)
                    case 7: (fromX, fromY) = (mirroredY, mirroredX)
                    default: (fromX, fromY) = (mirroredY, x)
                    }
                    let (to, from) = (3 * (y * outWidth + x), 3 * (fromY * width + fromX))
                    for channel in 0..<3 { found[to + channel] = source[from + channel] }
                }
            }
        }
        count = picture.bytes.count
    }
    return RGBPicture(checked: bytes, outWidth, outHeight)
}

/// Rows without the padding after each, which cameras add.
func packed(_ base: UnsafeRawPointer, rowBytes: Int, width: Int, rows: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: width * rows) { found, count in
        for row in 0..<rows {
            UnsafeMutableRawPointer(found.baseAddress! + row * width).copyMemory(from: base + row * rowBytes, byteCount: width)
        }
        count = width * rows
    }
}
