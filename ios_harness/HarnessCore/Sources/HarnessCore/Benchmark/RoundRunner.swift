import Foundation

/// One round of one cell, from loading to its samples; the steps are those of docs/measuring.md.
struct RoundRunner {
    let job: Job
    let folder: URL
    let runtimes: [ModelRuntime]
    let machine: Machine

    /// Never throws: a round that fails is a result too.
    /// - Parameter entering: called before each step, so that it is known where a process ended.
    func run(_ turn: Turn, entering: (RunProgress.Step) throws -> Void = { _ in }) -> RoundResult {
        var result = RoundResult(runId: job.runId, turn: turn)
        result.cooledSeconds = cool()
        do {
            try measure(turn, into: &result, entering)
        } catch {
            result.status = .failed
            (result.answers, result.samplesNs, result.cpuNs) = (nil, nil, nil)
            result.error = oneLine(error)
        }
        result.thermalState = machine.snapshot().thermalState
        return result
    }

    /// Waits until the device is at its nominal temperature, at most as long as the protocol says.
    /// - Returns: seconds; nil where nothing had to be waited for, or the state is not known.
    private func cool() -> Double? {
        let most = job.protocol.coolSeconds ?? 0
        let start = Clock.wall()
        var waited: Double { Double(Clock.wall() - start) / 1e9 }
        guard most > 0, isWarm else { return nil }
        while isWarm, waited < most { Thread.sleep(forTimeInterval: min(1, most - waited)) }
        return waited
    }

    private var isWarm: Bool { machine.snapshot().thermalState.map { $0 != .nominal } ?? false }

    private func measure(
        _ turn: Turn, into result: inout RoundResult, _ entering: (RunProgress.Step) throws -> Void
    ) throws {
        guard let cell = job.cell(turn.cell) else { throw HarnessError("the job has no cell \(turn.cell)") }
        guard let runtime = runtimes.first(where: { $0.name == cell.runtime }) else {
            let names = runtimes.map(\.name).joined(separator: ", ")
            throw HarnessError("this harness runs \(names) here, not \(cell.runtime) (\(Runtimes.conditions))")
        }
        let file = folder.appendingPathComponent(cell.file)
        if turn.round == 0, try FileHash.of(file) != cell.sha256 {
            throw HarnessError("\(cell.file) did not arrive as it was sent; copy the job's folder again")
        }
        let specializing = try runtime.install(cell, at: file, anew: turn.round == 0)
        if turn.round == 0 { result.specializationNs = specializing }
        let examples = try GoldenExamples(cell, folder: folder, limit: job.protocol.goldenInputs ?? 0)
        var footprint = Footprint()

        try entering(.load)
        // One model is in memory at a time, so every round loads: on a phone a second one could be the one too many.
        var (model, loading) = try Clock.timed { try runtime.load(cell, at: file) }
        result.loadFirstNs = loading
        if turn.round == 0 {
            model = Nothing()
            (model, loading) = try Clock.timed { try runtime.load(cell, at: file) }
            result.loadAgainNs = loading
        }
        footprint.look()
        try model.prepare(examples.inputs[0])
        try entering(.firstInference)
        result.firstInferenceNs = try Clock.timed { try pooled { try model.infer() } }.1
        footprint.look()
        try entering(.measuring)
        if turn.round == 0, cell.golden != nil {
            result.answers = try answers(model, examples)
            try model.prepare(examples.inputs[0])
        }
        for _ in 0..<job.protocol.warmUpIterations { try pooled { try model.infer() } }
        try sample(model, into: &result)
        footprint.look()
        result.peakMemoryBytes = footprint.largest
        result.warnings = model.warnings
        if turn.round == 0 {  // after the peak: Core ML loads the model once more for its plan
            let plan = try runtime.plan(cell)
            result.placement = plan.placements
            // Without the Neural Engine every operation's place is known beforehand.
            if cell.computeUnits == .cpuAndNeuralEngine || cell.computeUnits == .all { result.operations = plan.operations }
        }
    }

    /// To all golden inputs, float32, one after the other; whoever sent the job knows what they should be.
    private func answers(_ model: LoadedModel, _ examples: GoldenExamples) throws -> Data {
        var answers = Data()
        for input in examples.inputs {
            try model.prepare(input)
            try pooled { try model.infer() }
            for value in try model.output() { answers.append(littleEndian: value.bitPattern) }
        }
        return answers
    }

    private func sample(_ model: LoadedModel, into result: inout RoundResult) throws {
        let cpu = Clock.cpu()
        result.samplesNs = try model.sample(Sampling(job.protocol))
        result.cpuNs = Int(Clock.cpu() - cpu)
    }

    private func oneLine(_ error: Error) -> String {
        let text = (error as? HarnessError)?.description ?? error.localizedDescription
        return text.split(whereSeparator: \.isNewline).joined(separator: " ")
    }
}

/// Takes a dropped model's place, so that its memory is free before the same one is loaded again.
private final class Nothing: LoadedModel {
    let warnings: [String] = []
    func prepare(_ example: Example) throws {}
    func infer() throws {}
    func output() throws -> [Float] { [] }
}
