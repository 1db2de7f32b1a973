import CoreML
import Foundation

#if canImport(ImageIO)
import CoreVideo
import ImageIO

/// An image file as the model takes it: scaled and cut out as the manifest says, 32BGRA. CoreGraphics does not scale
/// exactly as the evaluation does (antialiased bilinear): embeddings differ in the third digit.
func loadImage(_ url: URL, _ preprocess: Preprocess) throws -> CVPixelBuffer {
    let size = preprocess.size
    // The thumbnail of full size is upright: it follows the orientation that the camera noted.
    let options: [CFString: Any] = [
        kCGImageSourceCreateThumbnailFromImageAlways: true, kCGImageSourceCreateThumbnailWithTransform: true,
    ]
    guard let source = CGImageSourceCreateWithURL(url as CFURL, nil),
        let image = CGImageSourceCreateThumbnailAtIndex(source, 0, options as CFDictionary)
    else { throw NoPicture(url: url) }
    let buffer = try emptyBuffer(size)
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    let layout = CGImageAlphaInfo.noneSkipFirst.rawValue | CGBitmapInfo.byteOrder32Little.rawValue
    guard
        let context = CGContext(
            data: CVPixelBufferGetBaseAddress(buffer), width: size, height: size, bitsPerComponent: 8,
            bytesPerRow: CVPixelBufferGetBytesPerRow(buffer), space: CGColorSpace(name: CGColorSpace.sRGB)!, bitmapInfo: layout)
    else { throw CocoaError(.featureUnsupported) }
    context.interpolationQuality = .high
    context.draw(image, in: preprocess.place(width: image.width, height: image.height))
    return buffer
}
#else
/// For the tests on Linux: the bytes of an image of the right size, red, green, blue, row by row.
func loadImage(_ url: URL, _ preprocess: Preprocess) throws -> CVPixelBuffer {
    let size = preprocess.size
    let bytes = try Data(contentsOf: url)
    guard bytes.count == 3 * size * size else { throw NoPicture(url: url) }
    let buffer = try emptyBuffer(size)
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    let base = CVPixelBufferGetBaseAddress(buffer)!
    for y in 0..<size {
        let row = base.advanced(by: y * CVPixelBufferGetBytesPerRow(buffer)).assumingMemoryBound(to: UInt8.self)
        for x in 0..<size {
            for channel in 0..<3 { row[4 * x + 2 - channel] = bytes[3 * (y * size + x) + channel] }
        }
    }
    return buffer
}
#endif

private struct NoPicture: LocalizedError {
    let url: URL
    var errorDescription: String? { "\(url.lastPathComponent) is no picture of a format that can be read here" }
}

private func emptyBuffer(_ size: Int) throws -> CVPixelBuffer {
    var made: CVPixelBuffer?
    let attributes = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()] as [String: Any]
    CVPixelBufferCreate(nil, size, size, kCVPixelFormatType_32BGRA, attributes as CFDictionary, &made)
    guard let made else { throw CocoaError(.featureUnsupported) }
    return made
}
