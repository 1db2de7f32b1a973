import Foundation
import MobileCLIPKit

#if canImport(MobileCLIPONNXRuntime)
import MobileCLIPONNXRuntime
#endif

// Searches a folder of pictures: swift run search BUNDLE FOLDER TEXT
//
// The first run embeds every picture; a later one embeds those that are new or have changed. On a Mac it reads what the
// system reads; on Linux it reads binary PPM.

let endings: Set<String> = ["ppm", "jpg", "jpeg", "png", "heic"]

func load(_ bundle: URL) async throws -> MobileCLIP {
    #if canImport(MobileCLIPONNXRuntime)
    return try await MobileCLIP.load(bundle: bundle, engine: ONNXRuntimeEngine())
    #else
    return try await MobileCLIP.load(bundle: bundle)
    #endif
}

/// Time of a file's last change, in milliseconds: the stamp of its row.
func stamp(_ file: URL) throws -> UInt64 {
    let changed = try file.resourceValues(forKeys: [.contentModificationDateKey]).contentModificationDate
    return UInt64((changed ?? .distantPast).timeIntervalSince1970.magnitude * 1000)
}

/// Embeds what the library lacks, and removes rows of pictures that are gone. Returns the number of new rows.
func update(_ library: URL, of folder: URL, by model: MobileCLIP) async throws -> Int {
    let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        .filter { endings.contains($0.pathExtension.lowercased()) }
    var stamps: [String: UInt64] = [:]
    for file in files { stamps[file.lastPathComponent] = try stamp(file) }
    var unchanged: Set<String> = []
    let exists = FileManager.default.fileExists(atPath: library.path)
    if exists {
        let index = try Index(contentsOf: library)
        for row in index.rows where stamps[try index.id(row)] == (try index.stamp(row)) {
            unchanged.insert(try index.id(row))
        }
    }
    let writer =
        exists ? try IndexWriter(appendingTo: library) : try IndexWriter.create(at: library, manifest: model.manifest)
    try writer.remove(ids: writer.ids.subtracting(unchanged).sorted())
    let new = files.filter { !unchanged.contains($0.lastPathComponent) }
    let embedded = try await model.embed(images: new.map { PictureFile($0) })
    try writer.add(
        zip(new, embedded).map { (id: $0.lastPathComponent, embedding: $1) },
        stamps: new.map { stamps[$0.lastPathComponent] ?? 0 })
    try writer.commit()
    return new.count
}

func run(_ arguments: [String]) async throws {
    guard arguments.count == 3 else { throw MobileCLIPError(.query, "usage: search BUNDLE FOLDER TEXT") }
    let folder = URL(fileURLWithPath: arguments[1])
    let library = folder.appendingPathComponent("library.mcdx")
    let model = try await load(URL(fileURLWithPath: arguments[0]))
    let count = try await update(library, of: folder, by: model)
    let answer = try await model.search(try Index(contentsOf: library), arguments[2], top: 5)
    print("\(count) embedded")
    if !answer.found { print("nothing found") }
    for match in answer.matches { print("\(String(format: "%.3f", match.score)) \(match.id)") }
}

do {
    try await run(Array(CommandLine.arguments.dropFirst()))
} catch {
    FileHandle.standardError.write(Data("error: \(error.localizedDescription)\n".utf8))
    exit(1)
}
