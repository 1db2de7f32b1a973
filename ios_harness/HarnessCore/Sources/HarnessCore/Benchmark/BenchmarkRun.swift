import Foundation

/// A whole run: the turns that the stream does not hold yet, then the result. Blocks its thread: not for the main one.
public struct BenchmarkRun {
    /// A turn that ends its process twice is given up: iOS ends an app that takes too much memory.
    static let attempts = 2

    public let job: Job
    let jobFolder: URL
    let outputFolder: URL
    let runtime: ModelRuntime
    let machine: Machine

    /// - Parameters:
    ///   - jobFolder: holds job.json and what it names.
    ///   - outputFolder: result, stream and progress go here.
    public init(jobFolder: URL, outputFolder: URL, runtime: ModelRuntime, machine: Machine) throws {
        job = try DocumentFiles.read(jobFolder.appendingPathComponent("job.json"), as: Job.self)
        self.jobFolder = jobFolder
        self.outputFolder = outputFolder
        self.runtime = runtime
        self.machine = machine
    }

    public var resultFile: URL { outputFolder.appendingPathComponent("\(job.runId).result.json") }
    public var progressFile: URL { outputFolder.appendingPathComponent("\(job.runId).progress.json") }
    var streamFile: URL { outputFolder.appendingPathComponent("\(job.runId).rounds.jsonl") }

    /// Run what is outstanding.
    /// - Parameters:
    ///   - observe: told after every change.
    ///   - stop: asked before every turn; true ends the run, which can be continued later, without a result.
    /// - Returns: the result, also written; nil when stopped.
    public func run(observe: (RunProgress) -> Void = { _ in }, stop: () -> Bool = { false }) throws -> BenchmarkResult? {
        try FileManager.default.createDirectory(at: outputFolder, withIntermediateDirectories: true)
        let earlier = try? DocumentFiles.read(progressFile, as: RunProgress.self)
        var progress = RunProgress(
            runId: job.runId, state: .running, error: nil, finishedTurns: 0, turns: job.order.count, turn: nil, attempt: 0,
            before: earlier?.before ?? machine.snapshot())
        do {
            return try turns(earlier, &progress, observe, stop)
        } catch {
            progress.state = .failed
            progress.error = (error as? HarnessError)?.description ?? error.localizedDescription
            observe(progress)
            try DocumentFiles.write(progress, to: progressFile)
            throw error
        }
    }

    private func turns(
        _ earlier: RunProgress?, _ progress: inout RunProgress, _ observe: (RunProgress) -> Void, _ stop: () -> Bool
    ) throws -> BenchmarkResult? {
        let stream = RoundStream(file: streamFile, job: job)
        var finished = try stream.read()
        let runner = RoundRunner(job: job, folder: jobFolder, runtime: runtime, machine: machine)
        while let turn = stream.outstanding(finished).first {
            if stop() { return nil }
            progress.finishedTurns = finished.count
            progress.turn = turn
            progress.attempt = earlier?.turn == turn ? earlier!.attempt + 1 : 1
            try DocumentFiles.write(progress, to: progressFile)
            observe(progress)
            let round = progress.attempt > BenchmarkRun.attempts ? givenUp(turn) : runner.run(turn)
            try stream.append(round)
            finished.append(round)
        }
        let result = assemble(finished, RunEnvironment(before: progress.before, after: machine.snapshot()))
        try DocumentFiles.write(result, to: resultFile)
        (progress.state, progress.turn, progress.finishedTurns) = (.finished, nil, finished.count)
        try DocumentFiles.write(progress, to: progressFile)
        observe(progress)
        return result
    }

    private func givenUp(_ turn: Turn) -> RoundResult {
        var round = RoundResult(runId: job.runId, turn: turn, status: .failed)
        round.error = "the process ended \(BenchmarkRun.attempts) times in this round; the system ends apps that take too much memory"
        return round
    }

    /// Rounds and summaries as the result holds them; cells without all their rounds say why.
    func assemble(_ finished: [RoundResult], _ environment: RunEnvironment) -> BenchmarkResult {
        BenchmarkResult(
            job: job, device: machine.device, harness: machine.harness, runtimes: [runtime.name.rawValue: runtime.version],
            environment: environment, cells: job.cells.map { cell in cellResult(cell, finished.filter { $0.cell == cell.id }) })
    }

    private func cellResult(_ cell: Cell, _ found: [RoundResult]) -> CellResult {
        let rounds = found.sorted { $0.round < $1.round }
        let bad = rounds.first { $0.status != .done }
        let status: CellResult.Status =
            bad.map { $0.status == .invalid ? .invalid : .failed } ?? (rounds.count == job.measurement.rounds ? .done : .skipped)
        var result = CellResult(id: cell.id, status: status)
        result.error = bad?.error ?? (status == .skipped ? "\(rounds.count) of \(job.measurement.rounds) rounds were run" : nil)
        let first = rounds.first { $0.round == 0 }
        result.loadFirstNs = first?.loadFirstNs
        result.loadAgainNs = first?.loadAgainNs
        result.firstInferenceNs = first?.firstInferenceNs
        result.peakMemoryBytes = rounds.compactMap(\.peakMemoryBytes).max()
        result.golden = rounds.lazy.compactMap(\.golden).first
        result.placement = rounds.first { !$0.placement.isEmpty }?.placement ?? []
        var seen: Set<String> = []
        result.warnings = rounds.flatMap(\.warnings).filter { seen.insert($0).inserted }
        result.rounds = rounds
        if status == .done {
            result.summary = try? Statistics.summarize(
                rounds: rounds.map(\.samplesNs), cpu: rounds.map(\.cpuNs), trimFraction: job.measurement.trimFraction)
        }
        return result
    }
}
