import Foundation

/// Large files come in parts, NAME.part000of003 and so on, so that a connection that breaks costs one part.
enum FileParts {
    /// Put together whatever is complete below a folder; the parts go as they are used.
    /// - Throws: `HarnessError` where parts are missing.
    static func join(below folder: URL) throws {
        let names = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
        for name in names.sorted() {
            guard let parts = name.wholeMatch(of: #/(.+)\.part000of([0-9]{3})/#), let count = Int(parts.2) else { continue }
            let whole = folder.appendingPathComponent(String(parts.1))
            let files = (0..<count).map { number in
                whole.appendingPathExtension("part\(padded(number))of\(padded(count))")
            }
            guard files.allSatisfy({ FileManager.default.fileExists(atPath: $0.path) }) else {
                throw HarnessError("\(parts.1) did not arrive whole; copy the job's folder again")
            }
            FileManager.default.createFile(atPath: whole.path, contents: nil)
            let handle = try FileHandle(forWritingTo: whole)
            for file in files {
                try handle.write(contentsOf: try Data(contentsOf: file, options: .mappedIfSafe))
            }
            try handle.close()
            for file in files { try FileManager.default.removeItem(at: file) }
        }
    }

    private static func padded(_ number: Int) -> String {
        String(repeating: "0", count: max(0, 3 - "\(number)".count)) + "\(number)"
    }
}
