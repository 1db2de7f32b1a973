import Foundation

#if canImport(ImageIO)
import ImageIO
#endif

/// A picture file, decoded when its turn comes: what ImageIO reads, HEIC too; on Linux, which decodes nothing by itself,
/// binary PPM (P6) of 8 bits.
public struct PictureFile: PictureSource, Sendable {
    public let url: URL

    public init(_ url: URL) { self.url = url }

    public func picture() throws -> Picture {
        let none = MobileCLIPError(.picture, "\(url.lastPathComponent) is no picture of a format that can be read here")
        #if canImport(ImageIO)
        guard let source = CGImageSourceCreateWithURL(url as CFURL, nil), let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else { throw none }
        let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any]
        let orientation = (properties?[kCGImagePropertyOrientation] as? NSNumber)?.intValue ?? 1
        return try image.picture(orientation: orientation)
        #else
        guard let content = try? Data(contentsOf: url) else { throw none }
        return try Picture(ppm: content) ?? { throw none }()
        #endif
    }
}

extension Picture {
    /// Nil where it is no PPM of 8 bits.
    init?(ppm content: Data) {
        var words: [String] = []
        var at = content.startIndex
        while words.count < 4 {
            while at < content.endIndex, content[at] <= 0x20 { at += 1 }
            let start = at
            while at < content.endIndex, content[at] > 0x20 { at += 1 }
            guard at > start, at < content.endIndex, at - start < 12 else { return nil }
            words.append(String(decoding: content[start..<at], as: UTF8.self))
        }
        guard words[0] == "P6", words[3] == "255", let width = Int(words[1]), let height = Int(words[2]) else { return nil }
        self.init(bytes: Array(content[(at + 1)...]), width: width, height: height)
    }
}
