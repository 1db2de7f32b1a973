import XCTest

@testable import HarnessCore

#if os(Linux)
import CoreAI
import StandInScript

/// The Core AI adapter, driven through the stand-in of Core AI.
final class CoreAITests: XCTestCase {
    override func setUp() { StandIn.script = StandIn() }
    override func tearDown() { StandIn.script = StandIn() }

    /// A job of one cell, and a stand-in that answers it rightly.
    private func job(
        _ units: String? = "default", changes: [String: Any] = [:], _ change: (inout StandIn) -> Void = { _ in }
    ) throws -> JobFolder {
        let own: [String: Any] = ["runtime": "coreai", "compute_units": units ?? NSNull()]
        let folder = try JobFolder(cells: ["a"], changes: own.merging(changes) { $1 }, asset: "toy.aimodel")
        var script = StandIn()
        script.answers = [.init(inputs: folder.golden("inputs").path, outputs: folder.golden("outputs").path, count: 2)]
        script.inputs = ["text": .init("int32", [1, 4])]
        change(&script)
        StandIn.script = script
        _ = StandIn.takeCalls()
        return folder
    }

    private func rounds(_ folder: JobFolder) throws -> [RoundResult] {
        try XCTUnwrap(try folder.run(CoreAIRuntime()).run()).rounds
    }

    func testEveryChoiceOfUnitsIsSpecializedForAndAnswersTheGoldenInputs() throws {
        for (units, told) in [
            ("default", "default"), ("cpuOnly", "cpuOnly"), ("preferCPU", "cpu"), ("preferGPU", "gpu"),
            ("preferNeuralEngine", "neuralEngine"),
        ] {
            let rounds = try rounds(try job(units))
            XCTAssertEqual(rounds.map(\.status), [.done, .done], units)
            XCTAssertEqual(rounds[0].values, [1, 0, 2, 0.5, -1, 0])
            XCTAssertEqual(StandIn.takeCalls(), ["specialize \(told)"] + [String](repeating: "load main \(told)", count: 3), units)
        }
    }

    func testSpecializingIsATimeOfItsOwnAndOfTheFirstRoundAlone() throws {
        let rounds = try rounds(try job { $0.microseconds = ["specialize": 20_000] })
        XCTAssertGreaterThanOrEqual(try XCTUnwrap(rounds[0].specializationNs), 20_000_000)
        XCTAssertNotNil(rounds[0].loadAgainNs)
        XCTAssertNil(rounds[1].specializationNs)
        XCTAssertNotNil(rounds[1].loadFirstNs)
    }

    func testWhatWasSpecializedBeforeIsSpecializedAnew() throws {
        let folder = try job("preferGPU")
        _ = try rounds(folder)
        try FileManager.default.removeItem(at: folder.folder.appendingPathComponent("results"))
        _ = StandIn.takeCalls()
        XCTAssertNotNil(try rounds(folder)[0].specializationNs)
        XCTAssertEqual(StandIn.takeCalls().prefix(2), ["delete gpu", "specialize gpu"])
    }

    func testAnEntryThatAModelRefersToIsKeptAndThereIsNoTimeOfSpecializing() throws {
        let folder = try job("preferGPU")
        _ = try rounds(folder)
        let file = folder.folder.appendingPathComponent("models/toy.aimodel")
        let held = try AIModelCache.default.model(for: file, options: SpecializationOptions(preferredComputeUnitKind: .gpu))
        XCTAssertNotNil(held)
        try FileManager.default.removeItem(at: folder.folder.appendingPathComponent("results"))
        let first = try withExtendedLifetime(held) { try rounds(folder)[0] }
        XCTAssertEqual(first.status, .done)
        XCTAssertNil(first.specializationNs)
    }

    func testAnswersAreThoseOfTheUnitThatWasAskedFor() throws {
        for (units, right) in [("preferGPU", false), ("cpuOnly", true), ("default", true)] {
            let first = try rounds(try job(units) { $0.wrong = ["toy.aimodel@gpu"] })[0]
            XCTAssertEqual(first.values == [1, 0, 2, 0.5, -1, 0], right, units)
        }
    }

    func testAnAssetThatDoesNotSpecializeOrLoadOrRunIsAFailedCell() throws {
        for step in ["specialize", "load", "inference"] {
            let first = try rounds(try job { $0.failing = [step: ["toy.aimodel"]] })[0]
            XCTAssertEqual(first.status, .failed, step)
            XCTAssertTrue(try XCTUnwrap(first.error).contains("told to fail at \(step)"), step)
        }
    }

    func testWhatCannotBeMeasuredSaysWhy() throws {
        func refusal(
            _ units: String? = "default", _ changes: [String: Any] = [:], _ change: (inout StandIn) -> Void = { _ in }
        ) throws -> String? {
            try rounds(try job(units, changes: changes, change))[0].error
        }
        XCTAssertEqual(try refusal("preferNeuralEngine") { $0.kinds = ["cpu", "gpu"] }, "this device has no neuralEngine")
        XCTAssertEqual(try refusal("all"), "compute units all are Core ML's; Core AI has none of that name")
        XCTAssertEqual(
            try refusal("default", ["options": ["speed": "high"]]),
            "option speed is unknown to Core AI's harness; it knows function")
        XCTAssertEqual(
            try refusal("default", ["options": ["function": "image"]]) { $0.functions = ["text"] },
            "no function image in toy.aimodel; it has main, text")
        XCTAssertEqual(try refusal { $0.inputs = ["ids": .init("int32", [1, 4])] }, "the model takes no array text; its inputs: ids")
        XCTAssertEqual(
            try refusal { $0.inputs = ["text": .init("int32", [1, 77])] }, "the model takes int32 [1, 77] as text, not int32 [1, 4]")
        XCTAssertEqual(try refusal { $0.output = "other" }, "the model gives no array final_emb_1; its outputs: other")
        XCTAssertEqual(
            try refusal("default", ["runtime": "another"]),
            "this harness runs coreai here, not another (Core AI needs iOS 27 or macOS 27, a harness built by Xcode 27, and no simulator)")
    }

    func testAFunctionOfAnAssetIsChosenAndDynamicDimensionsAreFilled() throws {
        let folder = try job(nil, changes: ["options": ["function": "text"]]) {
            $0.functions = ["text"]
            $0.inputs = ["text": .init("int32", [-1, 4])]
        }
        XCTAssertEqual(try rounds(folder)[0].status, .done)
        XCTAssertEqual(StandIn.takeCalls().last, "load text default")
    }
}
#endif
