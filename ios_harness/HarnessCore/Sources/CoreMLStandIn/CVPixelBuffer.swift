import Foundation

// The part of CoreVideo that is needed to hand Core ML an image.

public typealias CVReturn = Int32
public typealias OSType = UInt32
public typealias CFString = String
public typealias CFDictionary = [String: Any]
public let kCVReturnSuccess: CVReturn = 0
public let kCVPixelFormatType_32BGRA: OSType = 0x4247_5241
public let kCVPixelBufferIOSurfacePropertiesKey: CFString = "IOSurfaceProperties"

public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let readOnly = CVPixelBufferLockFlags(rawValue: 1)
}

/// Rows are padded, as real ones are.
public final class CVPixelBuffer {
    let width: Int
    let height: Int
    let rowBytes: Int
    let memory: UnsafeMutableRawPointer
    var locks = 0

    init(_ width: Int, _ height: Int) {
        (self.width, self.height, rowBytes) = (width, height, (4 * width + 63) / 64 * 64 + 64)
        memory = .allocate(byteCount: rowBytes * height, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0xAA, count: rowBytes * height)
    }

    deinit { memory.deallocate() }

    /// RGB planes [3, height, width].
    func planes() -> Data {
        var data = Data(count: 3 * width * height)
        data.withUnsafeMutableBytes { (target: UnsafeMutableRawBufferPointer) in
            for y in 0..<height {
                let row = memory.advanced(by: y * rowBytes).assumingMemoryBound(to: UInt8.self)
                for x in 0..<width {
                    for channel in 0..<3 { target[(channel * height + y) * width + x] = row[4 * x + 2 - channel] }
                }
            }
        }
        return data
    }
}

@discardableResult
public func CVPixelBufferCreate(
    _ allocator: Any?, _ width: Int, _ height: Int, _ pixelFormatType: OSType, _ pixelBufferAttributes: CFDictionary?,
    _ pixelBufferOut: inout CVPixelBuffer?
) -> CVReturn {
    guard pixelFormatType == kCVPixelFormatType_32BGRA, width > 0, height > 0 else { return -6680 }
    pixelBufferOut = CVPixelBuffer(width, height)
    return kCVReturnSuccess
}

@discardableResult
public func CVPixelBufferLockBaseAddress(_ pixelBuffer: CVPixelBuffer, _ lockFlags: CVPixelBufferLockFlags) -> CVReturn {
    pixelBuffer.locks += 1
    return kCVReturnSuccess
}

@discardableResult
public func CVPixelBufferUnlockBaseAddress(_ pixelBuffer: CVPixelBuffer, _ unlockFlags: CVPixelBufferLockFlags) -> CVReturn {
    pixelBuffer.locks -= 1
    return kCVReturnSuccess
}

/// Nil while the buffer is not locked.
public func CVPixelBufferGetBaseAddress(_ pixelBuffer: CVPixelBuffer) -> UnsafeMutableRawPointer? {
    pixelBuffer.locks > 0 ? pixelBuffer.memory : nil
}

public func CVPixelBufferGetBytesPerRow(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.rowBytes }
public func CVPixelBufferGetWidth(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.width }
public func CVPixelBufferGetHeight(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.height }
