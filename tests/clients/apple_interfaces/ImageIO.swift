// The part of ImageIO's interface that the package uses, so that its sources can be type-checked on Linux. It does
// nothing.
@_exported import CoreGraphics

public typealias CFURL = NSURL
public typealias CFDictionary = NSDictionary
public final class CGImageSource { init() {} }
nonisolated(unsafe) public let kCGImagePropertyOrientation: CFString = ""

public func CGImageSourceCreateWithURL(_ url: CFURL, _ options: CFDictionary?) -> CGImageSource? { nil }
public func CGImageSourceCreateImageAtIndex(_ source: CGImageSource, _ index: Int, _ options: CFDictionary?) -> CGImage? { nil }
public func CGImageSourceCopyPropertiesAtIndex(
    _ source: CGImageSource, _ index: Int, _ options: CFDictionary?
) -> CFDictionary? { nil }
