import Foundation

#if canImport(CryptoKit)
import CryptoKit
#else
import PlainSHA256
#endif

/// The SHA-256 of a file, or of a package (a folder) as docs/measuring.md defines it.
public enum FileHash {
    public static func of(_ url: URL) throws -> String {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
            throw HarnessError("\(url.lastPathComponent) is missing; copy the job's folder again")
        }
        guard isFolder.boolValue else { return try hash(file: url) }
        let names = try FileManager.default.subpathsOfDirectory(atPath: url.path).filter { name in
            var nested: ObjCBool = false
            return FileManager.default.fileExists(atPath: url.appendingPathComponent(name).path, isDirectory: &nested)
                && !nested.boolValue
        }
        // Python sorts paths part by part: "a/b" comes before "a.b".
        let ordered = names.map { $0.split(separator: "/").map { Array($0.unicodeScalars.map(\.value)) } }.enumerated()
            .sorted { $0.element.lexicographicallyPrecedes($1.element) { $0.lexicographicallyPrecedes($1) } }
            .map { names[$0.offset] }
        let lines = try ordered.map { "\($0)\0\(try hash(file: url.appendingPathComponent($0)))\n" }.joined()
        return digest(Data(lines.utf8))
    }

    private static func hash(file: URL) throws -> String {
        digest(try Data(contentsOf: file, options: .mappedIfSafe))
    }

    static func digest(_ data: Data) -> String {
        #if canImport(CryptoKit)
        let bytes = Array(SHA256.hash(data: data))
        #else
        let bytes = PlainSHA256.hash(data)
        #endif
        return bytes.map { String(format: "%02x", $0) }.joined()
    }
}
