import Foundation

/// One round of one cell, from loading to its samples; the steps are those of docs/benchmark.md.
struct RoundRunner {
    let job: Job
    let folder: URL
    let runtimes: [ModelRuntime]
    let machine: Machine

    /// Never throws: a round that fails is a result too.
    func run(_ turn: Turn) -> RoundResult {
        var result = RoundResult(runId: job.runId, turn: turn)
        do {
            try measure(turn, into: &result)
        } catch {
            result.status = .failed
            result.samplesNs = nil
            result.cpuNs = nil
            result.error = oneLine(error)
        }
        result.thermalState = machine.snapshot().thermalState
        return result
    }

    private func measure(_ turn: Turn, into result: inout RoundResult) throws {
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
        result.firstInferenceNs = try Clock.timed { try pooled { try model.infer() } }.1
        footprint.look()
        if turn.round == 0 {
            let plan = try runtime.plan(cell)
            result.placement = plan.placements
            // Elsewhere than beside the Neural Engine every operation's place is known beforehand.
            if cell.computeUnits == .cpuAndNeuralEngine || cell.computeUnits == .all { result.operations = plan.operations }
            try check(model, cell, examples, into: &result)
            try model.prepare(examples.inputs[0])
        }
        if result.status == .done {
            for _ in 0..<job.protocol.warmUpIterations { try pooled { try model.infer() } }
            try sample(model, into: &result)
        }
        footprint.look()
        result.peakMemoryBytes = footprint.largest
        result.warnings = (result.warnings ?? []) + model.warnings
    }

    private func check(_ model: LoadedModel, _ cell: Cell, _ examples: GoldenExamples, into result: inout RoundResult) throws {
        guard let gate = cell.gate else { return }
        var comparison = GoldenCheck()
        for (input, answer) in zip(examples.inputs, examples.answers) {
            try model.prepare(input)
            try pooled { try model.infer() }
            comparison.add(output: try model.output(), answer: answer)
        }
        let outcome = comparison.outcome(gate)
        result.golden = outcome
        guard !outcome.passed else { return }
        if cell.competitor {
            result.warnings = ["answers differ from the checkpoint's (\(comparison.explain(gate)))"]
        } else {
            result.status = .invalid
            result.error = comparison.explain(gate)
        }
    }

    private func sample(_ model: LoadedModel, into result: inout RoundResult) throws {
        let cpu = Clock.cpu()
        result.samplesNs = try model.sample(job.protocol.iterationsPerRound, for: UInt64(job.protocol.secondsPerRound * 1e9))
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
