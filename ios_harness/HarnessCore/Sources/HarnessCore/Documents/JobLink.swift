import Foundation

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// files.json in a job's folder: what a device fetches of it, job.json included.
public struct JobFiles: Codable, Equatable, Sendable {
    public struct Entry: Codable, Equatable, Sendable {
        public var path: String
        public var bytes: Int
        public var sha256: String
    }

    public var schemaVersion: Int
    public var runId: String
    public var files: [Entry]
}

extension JobFiles: Checked {
    public func check(_ rules: Rules) throws {
        try rules.number(schemaVersion, "schema_version", in: 1...1)
        try rules.text(runId, "run_id", .identifier)
        for (index, entry) in files.enumerated() {
            let inside = rules.inside("files.\(index)")
            try inside.text(entry.path, "path", .path)
            try inside.number(entry.bytes, "bytes")
            try inside.text(entry.sha256, "sha256", .sha256)
        }
        try rules.hold(files.contains { $0.path == "job.json" }, "files", "lacks job.json")
    }
}

/// A job's folder on a web server.
public enum JobLink {
    public static let scheme = "mobileclip-bench"

    /// The folder's address: a web address as it is, or `job` of `mobileclip-bench:?job=https://...`, which opens the app.
    public static func folder(of link: URL) throws -> URL {
        let items = URLComponents(url: link, resolvingAgainstBaseURL: false)?.queryItems ?? []
        let named = link.scheme == scheme ? items.first { $0.name == "job" }?.value.flatMap(URL.init(string:)) : link
        guard let named, ["https", "http"].contains(named.scheme) else {
            throw HarnessError("\(link.absoluteString) is no link to a job: it begins with https://, or \(scheme):?job=https://")
        }
        return named.lastPathComponent == "files.json" ? named.deletingLastPathComponent() : named
    }
}

extension Workspace {
    /// Fetch a job's folder, each file held to the size and the hash that files.json names, to where it can be run. Blocks.
    /// - Parameter observe: told how many of how many bytes are here.
    /// - Returns: the job's id.
    public func fetch(_ folder: URL, observe: (Int, Int) -> Void) throws -> String {
        let list = try DocumentFiles.parse(content(folder, "files.json"), as: JobFiles.self, name: "files.json")
        let place = documents.appendingPathComponent("runs").appendingPathComponent(list.runId)
        let partial = documents.appendingPathComponent("fetching").appendingPathComponent(list.runId)
        try? FileManager.default.removeItem(at: partial)
        defer { try? FileManager.default.removeItem(at: partial) }
        let all = list.files.map(\.bytes).reduce(0, +)
        var come = 0
        for entry in list.files {
            let data = try content(folder, entry.path)
            guard data.count == entry.bytes, FileHash.digest(data) == entry.sha256 else {
                throw HarnessError("\(entry.path) is not the file that files.json names; write the job again")
            }
            let file = partial.appendingPathComponent(entry.path)
            try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try data.write(to: file)
            come += data.count
            observe(come, all)
        }
        let job = try DocumentFiles.read(partial.appendingPathComponent("job.json"), as: Job.self)
        guard job.runId == list.runId else { throw HarnessError("files.json is of another job; write the job again") }
        try FileManager.default.createDirectory(at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
        try? FileManager.default.removeItem(at: place)
        try FileManager.default.moveItem(at: partial, to: place)
        return list.runId
    }

    private func content(_ folder: URL, _ path: String) throws -> Data {
        do {
            return try Data(contentsOf: folder.appendingPathComponent(path))
        } catch {
            throw HarnessError("\(path) cannot be fetched (\(error.localizedDescription)); is the link right, and the network there?")
        }
    }
}

extension BenchmarkRecord {
    /// The median of all samples of a cell; nil where there are none. Nobody has compared the cell's answers by then.
    public func medianNanoseconds(of cell: String) -> Int? {
        let samples = rounds.filter { $0.cell == cell }.flatMap { $0.samplesNs ?? [] }.sorted()
        return samples.isEmpty ? nil : (samples[(samples.count - 1) / 2] + samples[samples.count / 2]) / 2
    }
}
