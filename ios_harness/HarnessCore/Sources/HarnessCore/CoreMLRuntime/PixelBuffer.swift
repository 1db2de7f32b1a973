import CoreML
import Foundation

#if canImport(CoreVideo)
import CoreVideo
#endif

/// Images as Core ML takes them from a camera: 32-bit BGRA in an IOSurface.
enum PixelBuffer {
    /// - Parameter planes: uint8 [1, 3, height, width], RGB.
    static func make(planes: Example) throws -> CVPixelBuffer {
        let (height, width) = (planes.shape[planes.shape.count - 2], planes.shape[planes.shape.count - 1])
        guard planes.dtype == .uint8, planes.bytes.count == 3 * height * width else {
            throw HarnessError("an image is three planes of bytes, red, green, blue")
        }
        var made: CVPixelBuffer?
        let attributes: [String: Any] = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()]
        let status = CVPixelBufferCreate(nil, width, height, kCVPixelFormatType_32BGRA, attributes as CFDictionary, &made)
        guard status == kCVReturnSuccess, let buffer = made else {
            throw HarnessError("no pixel buffer of \(width) x \(height) (CoreVideo error \(status))")
        }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else { throw HarnessError("the pixel buffer has no memory") }
        let rowBytes = CVPixelBufferGetBytesPerRow(buffer)
        planes.bytes.withUnsafeBytes { (source: UnsafeRawBufferPointer) in
            let plane = height * width
            for y in 0..<height {
                let row = base.advanced(by: y * rowBytes).assumingMemoryBound(to: UInt8.self)
                for x in 0..<width {
                    let place = y * width + x
                    row[4 * x] = source[2 * plane + place]
                    row[4 * x + 1] = source[plane + place]
                    row[4 * x + 2] = source[place]
                    row[4 * x + 3] = 255
                }
            }
        }
        return buffer
    }
}
