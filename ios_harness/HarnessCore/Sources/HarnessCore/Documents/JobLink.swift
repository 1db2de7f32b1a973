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

    /// More than any job that this toolkit writes: a phone's memory is finite, and a stranger may have written the link.
    static let most = 10_000, mostBytes = 16_000_000_000

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
        try rules.hold(files.count <= JobFiles.most, "files", "holds more than \(JobFiles.most) files")
        // One by one: a sum could overflow.
        var room = JobFiles.mostBytes
        for entry in files {
            try rules.hold(entry.bytes <= room, "files", "holds more than \(JobFiles.mostBytes / 1_000_000_000) GB")
            room -= entry.bytes
        }
    }
}

/// A job's folder on a web server.
public enum JobLink {
    public static let scheme = "mobileclip-bench"

    /// The folder's address: a web address as it is, or `job` of `mobileclip-bench:?job=https://...`, which opens the app.
    public static func folder(of link: URL) throws -> URL {
        let items = URLComponents(url: link, resolvingAgainstBaseURL: false)?.queryItems ?? []
        // iOS begins a typed address with a capital.
        let opens = link.scheme?.lowercased() == scheme
        let named = opens ? items.first { $0.name == "job" }?.value.flatMap(URL.init(string:)) : link
        guard let named, let kind = named.scheme?.lowercased(), ["https", "http"].contains(kind) else {
            throw HarnessError("\(link.absoluteString) is no link to a job: it begins with https://, or \(scheme):?job=https://")
        }
        var parts = URLComponents(url: named, resolvingAgainstBaseURL: false)
        parts?.scheme = kind
        let address = parts?.url ?? named
        return address.lastPathComponent == "files.json" ? address.deletingLastPathComponent() : address
    }
}

extension Workspace {
    /// Fetch a job's folder, each file held to the size and the hash that files.json names, to where it can be run. Blocks.
    /// A job of that id that is here already stays; it is removed by hand first.
    /// - Parameter observe: called with the number of bytes received and of all bytes.
    /// - Returns: the job's id.
    public func fetch(_ folder: URL, observe: (Int, Int) -> Void) throws -> String {
        let list = try DocumentFiles.parse(content(folder, "files.json", most: 1 << 20), as: JobFiles.self, name: "files.json")
        let place = documents.appendingPathComponent("runs").appendingPathComponent(list.runId)
        guard !FileManager.default.fileExists(atPath: place.path) else {
            throw HarnessError("a job \(list.runId) is here already; delete runs/\(list.runId) in the Files app to fetch it again")
        }
        let partial = documents.appendingPathComponent("fetching").appendingPathComponent(list.runId)
        try? FileManager.default.removeItem(at: partial)
        defer { try? FileManager.default.removeItem(at: partial) }
        let all = list.files.map(\.bytes).reduce(0, +)
        var come = 0
        for entry in list.files {
            let data = try content(folder, entry.path, most: entry.bytes)
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
        try FileManager.default.moveItem(at: partial, to: place)
        return list.runId
    }

    private func content(_ folder: URL, _ path: String, most: Int) throws -> Data {
        do {
            return try BoundedDownload(most: most).content(of: folder.appendingPathComponent(path))
        } catch let error as HarnessError {
            throw HarnessError("\(path) \(error.description)")
        } catch {
            throw HarnessError(
                "\(path) cannot be fetched (\(error.localizedDescription)): is the link right, and is this app allowed to look in "
                    + "the local network (Settings, Privacy & Security, Local Network)?")
        }
    }
}

/// One response of a web server, up to a maximum size, into memory. Blocks.
private final class BoundedDownload: NSObject, URLSessionDataDelegate, @unchecked Sendable {
    private let most: Int
    private let finished = DispatchSemaphore(value: 0)
    private var data = Data()
    private var failure: Error?

    init(most: Int) { self.most = most }

    func content(of address: URL) throws -> Data {
        let session = URLSession(configuration: .ephemeral, delegate: self, delegateQueue: nil)
        defer { session.invalidateAndCancel() }
        session.dataTask(with: address).resume()
        finished.wait()
        if let failure { throw failure }
        return data
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive part: Data) {
        data.append(part)
        guard data.count > most, failure == nil else { return }
        failure = HarnessError("is larger than files.json says; write the job again")
        dataTask.cancel()
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: Error?) {
        if let status = (task.response as? HTTPURLResponse)?.statusCode, status != 200 { failure = failure ?? NoAnswer(status: status) }
        failure = failure ?? error
        finished.signal()
    }

    private struct NoAnswer: LocalizedError {
        let status: Int
        var errorDescription: String? { "the server answered \(status)" }
    }
}

extension BenchmarkRecord {
    /// The median of all samples of a cell; nil where there are none. Nobody has compared the cell's answers by then.
    public func medianNanoseconds(of cell: String) -> Int? {
        let samples = rounds.filter { $0.cell == cell }.flatMap { $0.samplesNs ?? [] }.sorted()
        return samples.isEmpty ? nil : (samples[(samples.count - 1) / 2] + samples[samples.count / 2]) / 2
    }
}
