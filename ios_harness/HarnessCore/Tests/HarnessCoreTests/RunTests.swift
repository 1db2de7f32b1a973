import XCTest

@testable import HarnessCore

/// A run from job to result, on a runtime of the test's own.
final class RunTests: XCTestCase {
    func testEveryRoundIsMeasuredInTheOrderOfTheJob() throws {
        let folder = try JobFolder()
        let runtime = FakeRuntime(folder)
        var told: [Int] = []
        let record = try XCTUnwrap(try folder.run(runtime).run(observe: { told.append($0.finishedTurns) }))
        XCTAssertEqual(runtime.loads, ["a", "a", "b", "b", "a", "b"])  // round 0 loads twice
        XCTAssertEqual(told, [0, 1, 2, 3, 4])
        for name in ["a", "b"] {
            let rounds = record.rounds(of: name)
            XCTAssertEqual(rounds.map(\.status), [.done, .done])
            XCTAssertEqual(rounds.map(\.samplesNs?.count), [5, 5])
            XCTAssertNotNil(rounds[0].loadAgainNs)
            XCTAssertEqual(rounds.map(\.values), [[1, 0, 2, 0.5, -1, 0], nil])
            XCTAssertEqual(rounds[0].placement?.first?.unit, "cpu")
            XCTAssertNotNil(rounds[0].peakMemoryBytes)
            let samples = rounds.flatMap { $0.samplesNs ?? [] }.sorted()
            let median = String(format: "%.3f", Double((samples[4] + samples[5]) / 2) / 1e6)
            XCTAssertEqual(record.outcome(of: try XCTUnwrap(record.job.cell(name))), "\(median) ms, 2 of 2 rounds")
        }
        // per cell: first, 2 golden (round 0), 2 warm-up and 5 samples a round
        XCTAssertEqual(runtime.inferences, 2 * (2 * (1 + 2 + 5) + 2))
        XCTAssertTrue(record.device.simulated)
        XCTAssertEqual(try DocumentFiles.read(folder.run(runtime).recordFile, as: BenchmarkRecord.self), record)
    }

    func testTheFirstRoundsCanBeRunAloneAndACellThatIsCalledInvalidMeanwhileHasNoOthers() throws {
        let folder = try JobFolder()
        let run = try folder.run(FakeRuntime(folder))
        XCTAssertNil(try run.run(onlyFirst: true))
        XCTAssertFalse(FileManager.default.fileExists(atPath: run.recordFile.path))
        let progress = try DocumentFiles.read(run.progressFile, as: RunProgress.self)
        XCTAssertEqual([progress.state.rawValue, "\(progress.finishedTurns)"], ["paused", "2"])
        let stream = RoundStream(file: run.streamFile, job: run.job)
        var judged = try stream.read()
        (judged[0].status, judged[0].samplesNs, judged[0].answers) = (.invalid, nil, nil)
        judged[0].golden = GoldenOutcome(inputs: 2, cosine: 0.1, relative: nil, passed: false)
        try FileManager.default.removeItem(at: run.streamFile)
        try judged.forEach(stream.append)
        let record = try XCTUnwrap(try folder.run(FakeRuntime(folder)).run())
        XCTAssertEqual(record.rounds(of: judged[0].cell).map(\.status), [.invalid])
        XCTAssertEqual(record.rounds(of: judged[1].cell).map(\.status), [.done, .done])
    }

    func testJobsOfABundleAreCopiedToWhereTheyCanBeRun() throws {
        let folder = try JobFolder()
        let bundle = place.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: bundle.appendingPathComponent("empty"), withIntermediateDirectories: true)
        try FileManager.default.copyItem(at: folder.folder, to: bundle.appendingPathComponent("some name"))
        let workspace = Workspace(documents: bundle.appendingPathComponent("documents"))
        let ids = try workspace.adopt(jobsIn: bundle)
        XCTAssertEqual(ids, [try DocumentFiles.read(folder.folder.appendingPathComponent("job.json"), as: Job.self).runId])
        XCTAssertEqual(workspace.jobs().map(\.lastPathComponent), ids)
    }

    func testALargeFileThatCameInPartsIsPutTogether() throws {
        let folder = place.appendingPathComponent(UUID().uuidString)
        let weights = folder.appendingPathComponent("models/a.mlpackage/weight.bin")
        try FileManager.default.createDirectory(at: weights.deletingLastPathComponent(), withIntermediateDirectories: true)
        for (number, text) in ["one ", "two ", "three"].enumerated() {
            try Data(text.utf8).write(to: weights.appendingPathExtension("part00\(number)of003"))
        }
        try FileParts.join(below: folder)
        XCTAssertEqual(try String(contentsOf: weights, encoding: .utf8), "one two three")
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: weights.deletingLastPathComponent().path), ["weight.bin"])
        try Data("one".utf8).write(to: weights.appendingPathExtension("part000of002"))
        XCTAssertThrowsError(try FileParts.join(below: folder)) { XCTAssertTrue("\($0)".contains("did not arrive whole")) }
    }

    func testThePeakOfARoundIsTheKernels() throws {
        let footprint = Footprint()
        let memory = try XCTUnwrap(Footprint.memory())
        XCTAssertNil(footprint.largest)  // nothing was looked at, and nothing was taken
        let size = memory.peak - memory.now + (64 << 20)
        let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 1 << 14)
        memset(block, 1, size)
        block.deallocate()
        XCTAssertGreaterThan(try XCTUnwrap(footprint.largest), memory.peak + (32 << 20))
    }

    func testThePeakDoesNotCountThePlan() throws {
        let folder = try JobFolder(cells: ["a"], rounds: 1)
        let runtime = FakeRuntime(folder)
        let memory = try XCTUnwrap(Footprint.memory())
        runtime.planBytes = memory.peak - memory.now + (400 << 20)
        let round = try XCTUnwrap(try folder.run(runtime).run()).rounds[0]
        XCTAssertNotNil(round.placement)
        XCTAssertLessThan(try XCTUnwrap(round.peakMemoryBytes), memory.peak + (200 << 20))
    }

    func testAWarmDeviceIsWaitedForAndACoolOneIsNot() throws {
        for (state, waits) in [(ThermalState.fair, true), (.nominal, false)] {
            let folder = try JobFolder(cells: ["a"], rounds: 1, rules: ["cool_seconds": 0.05])
            let run = try BenchmarkRun(
                jobFolder: folder.folder, outputFolder: folder.folder.appendingPathComponent("results"),
                runtimes: [FakeRuntime(folder)], machine: Machine(thermalState: { state }))
            let cooled = try XCTUnwrap(try run.run()).rounds[0].cooledSeconds
            XCTAssertEqual(cooled != nil, waits)
            XCTAssertGreaterThanOrEqual(cooled ?? 1, 0.05)
        }
    }

    func testAPacedRoundBeginsAnInferenceAtATime() throws {
        let folder = try JobFolder(cells: ["a"], rounds: 1, rules: ["pace_milliseconds": 20])
        let start = Clock.wall()
        XCTAssertEqual(try XCTUnwrap(try folder.run(FakeRuntime(folder)).run()).rounds[0].samplesNs?.count, 5)
        XCTAssertGreaterThan(Clock.wall() - start, 80_000_000)
    }

    func testAnswersThatAreNoNumbersGoBackAsTheyAre() throws {
        let folder = try JobFolder()
        let runtime = FakeRuntime(folder)
        runtime.answer = { _ in [.nan, 0, 0] }
        let values = try XCTUnwrap(try folder.run(runtime).run()?.rounds[0].values)
        XCTAssertEqual(values.map(\.isNaN), [true, false, false, true, false, false])
    }

    func testAFailedRoundIsALineAndTheOtherCellsGoOn() throws {
        let folder = try JobFolder()
        let runtime = FakeRuntime(folder)
        runtime.failing = { cell, count in cell == "a" && count == 3 }  // its second round
        let record = try XCTUnwrap(try folder.run(runtime).run())
        XCTAssertEqual(record.rounds(of: "a").map(\.status), [.done, .failed])
        XCTAssertEqual(record.rounds(of: "a").last?.error, "broken in two lines")
        XCTAssertEqual(record.rounds(of: "b").map(\.status), [.done, .done])
    }

    func testAStoppedRunGoesOnWhereItWas() throws {
        let folder = try JobFolder()
        let runtime = FakeRuntime(folder)
        var turns = 0
        XCTAssertNil(try folder.run(runtime).run(stop: { turns += 1; return turns > 2 }))
        let again = FakeRuntime(folder)
        let record = try XCTUnwrap(try folder.run(again).run())
        XCTAssertEqual(again.loads, ["a", "b"])
        XCTAssertEqual(["a", "b"].map { record.rounds(of: $0).count }, [2, 2])
    }

    func testTheRestOfALineThatWasCutOffIsDropped() throws {
        let folder = try JobFolder()
        let run = try folder.run(FakeRuntime(folder))
        _ = try run.run()
        var lines = try Data(contentsOf: run.streamFile)
        lines.removeLast(20)
        try lines.write(to: run.streamFile)
        let again = FakeRuntime(folder)
        XCTAssertEqual(try folder.run(again).run()?.rounds.count, 4)
        XCTAssertEqual(again.loads, ["b"])
    }

    func testALineOfAnotherRunIsRefused() throws {
        let folder = try JobFolder()
        let run = try folder.run(FakeRuntime(folder))
        _ = try run.run()
        let text = try String(contentsOf: run.streamFile, encoding: .utf8)
        try text.replacingOccurrences(of: "run-1", with: "run-2").write(to: run.streamFile, atomically: true, encoding: .utf8)
        XCTAssertThrowsError(try folder.run(FakeRuntime(folder)).run()) { error in
            XCTAssertTrue("\(error)".contains("delete it, run again"))
        }
        let progress = try DocumentFiles.read(run.progressFile, as: RunProgress.self)
        XCTAssertEqual(progress.state, .failed)
    }

    func testATurnThatEndsItsProcessTwiceIsGivenUp() throws {
        let folder = try JobFolder()
        let run = try folder.run(FakeRuntime(folder))
        try FileManager.default.createDirectory(at: run.outputFolder, withIntermediateDirectories: true)
        let died = RunProgress(
            runId: "run-1", state: .running, error: nil, finishedTurns: 0, turns: 4, turn: Turn(cell: "a", round: 0), attempt: 2,
            before: Snapshot(unixSeconds: 5))
        try DocumentFiles.write(died, to: run.progressFile)
        let record = try XCTUnwrap(try run.run())
        XCTAssertEqual(record.rounds(of: "a").map(\.status), [.failed])
        XCTAssertEqual(record.rounds(of: "b").map(\.status), [.done, .done])
        XCTAssertEqual(record.environment.before.unixSeconds, 5)
    }

    func testAUnitThatEndedTheAppTwiceIsNotTriedAgainUnderTheSameSystem() throws {
        for (step, remembered) in [(RunProgress.Step.load, true), (.firstInference, true), (.measuring, false)] {
            let folder = try JobFolder(cells: ["a"], rounds: 1)
            let run = try folder.run(FakeRuntime(folder))
            try FileManager.default.createDirectory(at: run.outputFolder, withIntermediateDirectories: true)
            let died = RunProgress(
                runId: "run-1", state: .running, error: nil, finishedTurns: 0, turns: 1, turn: Turn(cell: "a", round: 0),
                attempt: 2, step: step, before: Snapshot(unixSeconds: 5))
            try DocumentFiles.write(died, to: run.progressFile)
            let round = try XCTUnwrap(try run.run()).rounds[0]
            XCTAssertEqual(round.status, .failed)
            XCTAssertEqual(try XCTUnwrap(round.error).contains("the system ended the app while it"), remembered)
            // A later run of the same model, unit and system: nothing is loaded.
            try FileManager.default.removeItem(at: run.streamFile)
            try FileManager.default.removeItem(at: run.progressFile)
            let later = FakeRuntime(folder)
            let status = try XCTUnwrap(try folder.run(later).run()).rounds[0].status
            XCTAssertEqual(status, remembered ? .failed : .done)
            XCTAssertEqual(later.loads.isEmpty, remembered)
            guard remembered else { continue }
            // Under another system it is tried again.
            var killed = try DocumentFiles.read(run.killedUnits.file, as: [KilledUnits.Entry].self)
            killed[0].osVersion = "1.0.0"
            try DocumentFiles.write(killed, to: run.killedUnits.file)
            try FileManager.default.removeItem(at: run.streamFile)
            XCTAssertEqual(try XCTUnwrap(try folder.run(FakeRuntime(folder)).run()).rounds[0].status, .done)
        }
    }

    func testTheStepOfATurnIsWrittenBeforeItBegins() throws {
        let folder = try JobFolder(cells: ["a"], rounds: 1)
        let runtime = FakeRuntime(folder)
        let run = try folder.run(runtime)
        var step: RunProgress.Step?
        runtime.failing = { _, _ in
            step = (try? DocumentFiles.read(run.progressFile, as: RunProgress.self))?.step
            return false
        }
        _ = try run.run()
        XCTAssertEqual(step, .load)
    }

    func testADamagedModelIsNotMeasured() throws {
        let folder = try JobFolder()
        try Data("other".utf8).write(to: folder.folder.appendingPathComponent("models/toy.mlpackage/Data/weight.bin"))
        let cell = try XCTUnwrap(try folder.run(FakeRuntime(folder)).run()).rounds[0]
        XCTAssertEqual(cell.status, .failed)
        XCTAssertTrue(try XCTUnwrap(cell.error).contains("did not arrive as it was sent"))
    }

    func testACellWithoutGoldenFilesRunsOnAConstantInput() throws {
        let folder = try JobFolder(changes: ["golden": NSNull(), "gate": NSNull()])
        let runtime = FakeRuntime(folder)
        let cell = try XCTUnwrap(try folder.run(runtime).run()).rounds[0]
        XCTAssertEqual(cell.status, .done)
        XCTAssertNil(cell.answers)
    }
}
