// The part of CoreGraphics' interface that the package uses, so that its sources can be type-checked on Linux. It does
// nothing.
@_exported import Foundation

public typealias CFString = NSString

public enum CGColorSpaceModel: Sendable { case monochrome, rgb, cmyk }

public final class CGColorSpace: @unchecked Sendable {
    public init?(name: CFString) {}
    nonisolated(unsafe) public static let sRGB: CFString = "kCGColorSpaceSRGB"
    public var model: CGColorSpaceModel { .rgb }
}

public enum CGImageAlphaInfo: UInt32, Sendable { case none, noneSkipLast }
public enum CGInterpolationQuality: Sendable { case none, high }

public final class CGImage {
    init() {}
    public var width: Int { 0 }
    public var height: Int { 0 }
    public var colorSpace: CGColorSpace? { nil }
}

public final class CGContext {
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int, space: CGColorSpace,
        bitmapInfo: UInt32
    ) {}
    public var interpolationQuality = CGInterpolationQuality.none
    public func draw(_ image: CGImage, in rect: CGRect) {}
}
