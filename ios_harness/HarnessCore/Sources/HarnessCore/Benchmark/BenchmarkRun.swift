import Foundation

/// A whole run: the turns that the stream does not hold yet, then the record of all. Blocks its thread: not for the main one.
public struct BenchmarkRun {
    /// A turn that ends its process twice is given up: iOS ends an app that takes too much memory.
    static let attempts = 2

    public let job: Job
    let jobFolder: URL
    let outputFolder: URL
    let runtimes: [ModelRuntime]
    let machine: Machine

    /// - Parameters:
    ///   - jobFolder: holds job.json and what it names.
    ///   - outputFolder: record, stream and progress go here.
    public init(jobFolder: URL, outputFolder: URL, runtimes: [ModelRuntime], machine: Machine) throws {
        job = try DocumentFiles.read(jobFolder.appendingPathComponent("job.json"), as: Job.self)
        self.jobFolder = jobFolder
        self.outputFolder = outputFolder
        self.runtimes = runtimes
        self.machine = machine
    }

    public var recordFile: URL { outputFolder.appendingPathComponent("\(job.runId).run.json") }
    public var progressFile: URL { outputFolder.appendingPathComponent("\(job.runId).progress.json") }
    var killedUnits: KilledUnits { KilledUnits(file: outputFolder.appendingPathComponent("killed.json")) }
    var streamFile: URL { outputFolder.appendingPathComponent("\(job.runId).rounds.jsonl") }

    /// Run what is outstanding.
    /// - Parameters:
    ///   - onlyFirst: run the first round of each cell alone, and write no record.
    ///   - observe: called after every change.
    ///   - stop: called before every turn; true ends the run, which can be continued later, without a record.
    /// - Returns: the record, also written; nil when stopped, or without one.
    public func run(
        onlyFirst: Bool = false, observe: (RunProgress) -> Void = { _ in }, stop: () -> Bool = { false }
    ) throws -> BenchmarkRecord? {
        try FileManager.default.createDirectory(at: outputFolder, withIntermediateDirectories: true)
        let earlier = try? DocumentFiles.read(progressFile, as: RunProgress.self)
        var progress = RunProgress(
            runId: job.runId, state: .running, error: nil, finishedTurns: 0, turns: job.order.count, turn: nil, attempt: 0,
            before: earlier?.before ?? machine.snapshot())
        do {
            return try turns(earlier, &progress, onlyFirst, observe, stop)
        } catch {
            progress.state = .failed
            progress.error = (error as? HarnessError)?.description ?? error.localizedDescription
            observe(progress)
            try DocumentFiles.write(progress, to: progressFile)
            throw error
        }
    }

    private func turns(
        _ earlier: RunProgress?, _ progress: inout RunProgress, _ onlyFirst: Bool, _ observe: (RunProgress) -> Void,
        _ stop: () -> Bool
    ) throws -> BenchmarkRecord? {
        let stream = RoundStream(file: streamFile, job: job)
        var finished = try stream.read()
        let runner = RoundRunner(job: job, folder: jobFolder, runtimes: runtimes, machine: machine)
        while let turn = stream.outstanding(finished).first(where: { !onlyFirst || $0.round == 0 }) {
            if stop() { return nil }
            progress.finishedTurns = finished.count
            progress.turn = turn
            let interrupted = earlier?.turn == turn ? earlier : nil
            progress.attempt = (interrupted?.attempt ?? 0) + 1
            progress.step = nil
            try DocumentFiles.write(progress, to: progressFile)
            observe(progress)
            let round = try givenUp(turn, interrupted) ?? runner.run(turn) { step in
                progress.step = step
                try DocumentFiles.write(progress, to: progressFile)
            }
            try stream.append(round)
            finished.append(round)
        }
        if onlyFirst {
            (progress.state, progress.turn, progress.finishedTurns) = (.paused, nil, finished.count)
            try DocumentFiles.write(progress, to: progressFile)
            observe(progress)
            return nil
        }
        let used = runtimes.filter { runtime in job.cells.contains { $0.runtime == runtime.name } }
        let record = BenchmarkRecord(
            schemaVersion: job.schemaVersion, runId: job.runId, job: job, device: machine.device, harness: machine.harness,
            runtimes: Dictionary(uniqueKeysWithValues: used.map { ($0.name, $0.version) }),
            environment: RunEnvironment(before: progress.before, after: machine.snapshot()), rounds: finished)
        try DocumentFiles.write(record, to: recordFile)
        (progress.state, progress.turn, progress.finishedTurns) = (.finished, nil, finished.count)
        try DocumentFiles.write(progress, to: progressFile)
        observe(progress)
        return record
    }

    /// The failed result of a turn that ended its process too often, here or in an earlier run; nil for one to be run.
    /// - Parameter interrupted: the progress of an earlier process that died in this turn.
    private func givenUp(_ turn: Turn, _ interrupted: RunProgress?) throws -> RoundResult? {
        guard let cell = job.cell(turn.cell) else { return nil }
        let system = machine.device.osVersion
        var round = RoundResult(runId: job.runId, turn: turn, status: .failed)
        if let interrupted, interrupted.attempt >= BenchmarkRun.attempts {
            round.error =
                "the process ended \(BenchmarkRun.attempts) times in this round; the system ends apps that take too much memory"
            if let step = interrupted.step, step != .measuring { try killedUnits.add(cell, at: step, under: system) }
        }
        if let killed = killedUnits.entry(of: cell, under: system) {
            round.error = "\(killed), \(BenchmarkRun.attempts) times; delete killed.json in the app's folder to try again"
        }
        return round.error == nil ? nil : round
    }
}
