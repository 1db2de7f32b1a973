#if canImport(CoreGraphics)
import CoreGraphics
import Foundation

extension CGImage: PictureSource {
    public func picture() throws -> Picture { try picture(orientation: 1) }

    /// Its pixels as they are stored: an RGB picture's own colour space is kept, so that nothing is converted (Display P3
    /// too); grey, CMYK and others are drawn as sRGB by CoreGraphics.
    /// - Parameter orientation: EXIF's, 1 to 8, which a CGImage does not know; of a UIImage by its `imageOrientation`.
    public func picture(orientation: Int) throws -> Picture {
        let own = colorSpace.flatMap { $0.model == .rgb ? $0 : nil }
        guard let space = own ?? CGColorSpace(name: CGColorSpace.sRGB) else {
            throw MobileCLIPError(.picture, "no colour space for the picture")
        }
        var bytes = [UInt8](repeating: 255, count: 4 * width * height)  // white, for what is transparent
        let drawn = bytes.withUnsafeMutableBytes { target -> Bool in
            let layout = CGImageAlphaInfo.noneSkipLast.rawValue
            guard
                let context = CGContext(
                    data: target.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
                    space: space, bitmapInfo: layout)
            else { return false }
            context.interpolationQuality = .none
            context.draw(self, in: CGRect(x: 0, y: 0, width: width, height: height))
            return true
        }
        guard drawn else { throw MobileCLIPError(.picture, "a picture of \(width) x \(height) in its colours cannot be drawn") }
        for place in stride(from: 3, to: bytes.count, by: 4) { bytes[place] = 255 }
        return Picture(bytes: bytes, width: width, height: height, layout: .rgba, orientation: orientation)
    }
}
#endif

#if canImport(CoreVideo)
import CoreVideo

extension CVPixelBuffer: PictureSource {
    public func picture() throws -> Picture { try picture(orientation: 1) }

    /// A camera's buffer: 32BGRA, or luma and chroma in two planes of 8 bits, by the matrix that is attached (BT.709 where
    /// none is, as cameras have it) and the range that the format says.
    public func picture(orientation: Int) throws -> Picture {
        CVPixelBufferLockBaseAddress(self, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(self, .readOnly) }
        let (width, height) = (CVPixelBufferGetWidth(self), CVPixelBufferGetHeight(self))
        let format = CVPixelBufferGetPixelFormatType(self)
        switch format {
        case kCVPixelFormatType_32BGRA:
            guard let base = CVPixelBufferGetBaseAddress(self) else { throw MobileCLIPError(.picture, "the pixel buffer has no memory") }
            let bytes = packed(base, rowBytes: CVPixelBufferGetBytesPerRow(self), width: 4 * width, rows: height)
            return Picture(bytes: bytes, width: width, height: height, layout: .bgra, orientation: orientation)
        case kCVPixelFormatType_420YpCbCr8BiPlanarFullRange, kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange:
            let attached = CVBufferCopyAttachment(self, kCVImageBufferYCbCrMatrixKey, nil) as? String
            let bt601 = attached == (kCVImageBufferYCbCrMatrix_ITU_R_601_4 as String)
            return Picture(
                bytes: try plane(0, width, height) + plane(1, 2 * ((width + 1) / 2), (height + 1) / 2), width: width,
                height: height, layout: .nv12, orientation: orientation, matrix: bt601 ? .bt601 : .bt709,
                range: format == kCVPixelFormatType_420YpCbCr8BiPlanarFullRange ? .full : .video)
        default:
            throw MobileCLIPError(.picture, "a pixel buffer of format \(format) is not read: ask the camera for 32BGRA")
        }
    }

    private func plane(_ number: Int, _ width: Int, _ rows: Int) throws -> [UInt8] {
        guard let base = CVPixelBufferGetBaseAddressOfPlane(self, number) else {
            throw MobileCLIPError(.picture, "the pixel buffer has no plane \(number)")
        }
        return packed(base, rowBytes: CVPixelBufferGetBytesPerRowOfPlane(self, number), width: width, rows: rows)
    }
}
#endif
