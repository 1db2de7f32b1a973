import Foundation

/// Task of the app, or of the command. Launch arguments: `--prepare ID`, `--run ID`, `--remove ID`; with `--run` `--first`;
/// and `--exit` to end afterwards.
public enum Request: Equatable, Sendable {
    /// Make the folders for a run's files, those of its job that `--folder` names included: what copies files makes none.
    case prepare(String, folders: [String])
    /// Run the job of that id, or go on with it; or the first round of each cell alone.
    case run(String, onlyFirst: Bool = false)
    /// Remove a run's files, those of its job included.
    case remove(String)

    /// - Parameter arguments: without the program's name; nil if they name no task.
    public static func parse(_ arguments: [String]) throws -> Request? {
        let folders = arguments.indices.dropLast().filter { arguments[$0] == "--folder" }.map { arguments[$0 + 1] }
        guard folders.allSatisfy(TextForm.path.holds) else { throw HarnessError("--folder takes a path below the job's folder") }
        let requests: [(String, (String) -> Request)] = [
            ("--prepare", { .prepare($0, folders: folders) }), ("--run", { .run($0, onlyFirst: arguments.contains("--first")) }), ("--remove", Request.remove),
        ]
        for (option, make) in requests {
            guard let place = arguments.firstIndex(of: option) else { continue }
            guard place + 1 < arguments.count, TextForm.identifier.holds(arguments[place + 1]) else {
                throw HarnessError("\(option) takes a run's id")
            }
            return make(arguments[place + 1])
        }
        return nil
    }
}

/// The app's Documents folder: jobs come in under runs/ID (or, by hand, as Documents/job.json), results go to results/ID.
public struct Workspace: Sendable {
    public let documents: URL

    public init(documents: URL) { self.documents = documents }

    private var runs: URL { documents.appendingPathComponent("runs") }
    public func output(_ id: String) -> URL { documents.appendingPathComponent("results").appendingPathComponent(id) }

    /// What a run leaves at its end.
    public func record(_ id: String) -> URL { output(id).appendingPathComponent("\(id).run.json") }

    /// Copy the jobs that lie in a folder, each in one of its own, to where they can be run: a bundle cannot be written.
    /// - Returns: their ids.
    public func adopt(jobsIn folder: URL) throws -> [String] {
        try FileManager.default.createDirectory(at: runs, withIntermediateDirectories: true)
        var found: [String] = []
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() {
            let source = folder.appendingPathComponent(name)
            guard holdsJob(source) else { continue }
            let id = try DocumentFiles.read(source.appendingPathComponent("job.json"), as: Job.self).runId
            try FileManager.default.copyItem(at: source, to: runs.appendingPathComponent(id))
            found.append(id)
        }
        return found
    }

    /// The folder that holds a run's job.json. devicectl puts a folder's files in place of the folder, or inside it.
    func jobFolder(_ id: String) -> URL? {
        let place = runs.appendingPathComponent(id)
        return [place, place.appendingPathComponent(id)].first(where: holdsJob)
    }

    /// Jobs that can be started by hand: Documents/job.json first, then those under runs/.
    public func jobs() -> [URL] {
        let under = (try? FileManager.default.contentsOfDirectory(atPath: runs.path)) ?? []
        return [documents].filter(holdsJob) + under.sorted().compactMap(jobFolder)
    }

    private func holdsJob(_ folder: URL) -> Bool {
        FileManager.default.fileExists(atPath: folder.appendingPathComponent("job.json").path)
    }

    public func benchmark(_ folder: URL, machine: Machine) throws -> BenchmarkRun {
        let job = try DocumentFiles.read(folder.appendingPathComponent("job.json"), as: Job.self)
        let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask).first ?? documents
        let compiled = Machine.isSimulated ? documents.appendingPathComponent("compiled") : caches.appendingPathComponent("compiled-models")
        return try BenchmarkRun(
            jobFolder: folder, outputFolder: output(job.runId), runtimes: Runtimes.here(compiledFolder: compiled), machine: machine)
    }

    /// Blocks until it is done.
    public func carryOut(_ request: Request, machine: Machine, observe: @escaping @Sendable (RunProgress) -> Void) throws {
        switch request {
        case .prepare(let id, let folders):
            let job = runs.appendingPathComponent(id)
            for folder in [output(id), job] + folders.map(job.appendingPathComponent) {
                try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            }
        case .run(let id, let onlyFirst):
            guard let folder = jobFolder(id) else { throw HarnessError("there is no job \(id); copy its folder to runs/\(id)") }
            try FileParts.join(below: folder)
            try MeasuringThread.run {
                let benchmark = try benchmark(folder, machine: machine)
                guard benchmark.job.runId == id else { throw HarnessError("runs/\(id) holds the job \(benchmark.job.runId)") }
                _ = try benchmark.run(onlyFirst: onlyFirst, observe: observe)
            }
        case .remove(let id):
            for folder in [runs.appendingPathComponent(id), output(id)] where FileManager.default.fileExists(atPath: folder.path) {
                try FileManager.default.removeItem(at: folder)
            }
        }
    }
}

/// The arguments of the command `mobileclip-harness`.
public struct CommandLineRequest {
    public let documents: URL
    public let request: Request
    public let standingInFor: DeviceKind?

    public init(_ arguments: [String]) throws {
        guard let request = try Request.parse(arguments), let folder = CommandLineRequest.value(of: "--documents", arguments) else {
            throw HarnessError("usage: mobileclip-harness --documents FOLDER (--prepare | --run | --remove) ID")
        }
        let kind = CommandLineRequest.value(of: "--standing-in-for", arguments)
        guard kind == nil || Machine.isSimulated && DeviceKind(rawValue: kind!) != nil else {
            throw HarnessError("--standing-in-for takes ios or mac, where the machine is simulated")
        }
        documents = URL(fileURLWithPath: folder)
        self.request = request
        standingInFor = kind.flatMap(DeviceKind.init)
    }

    private static func value(of option: String, _ arguments: [String]) -> String? {
        arguments.firstIndex(of: option).flatMap { $0 + 1 < arguments.count ? arguments[$0 + 1] : nil }
    }
}
