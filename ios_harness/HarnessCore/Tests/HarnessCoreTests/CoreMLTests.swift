import CoreML
import XCTest

@testable import HarnessCore

#if os(Linux)
import StandInScript

/// The Core ML adapter, driven through the stand-in of Core ML.
final class CoreMLTests: XCTestCase {
    override func setUp() { StandIn.script = StandIn() }
    override func tearDown() { StandIn.script = StandIn() }

    private func script(_ folder: JobFolder, _ change: (inout StandIn) -> Void = { _ in }) {
        var script = StandIn()
        script.answers = [.init(inputs: folder.golden("inputs").path, outputs: folder.golden("outputs").path, count: 2)]
        change(&script)
        StandIn.script = script
    }

    /// The first round of the first cell.
    private func cell(_ folder: JobFolder) throws -> RoundResult {
        let runtime = CoreMLRuntime(compiledFolder: folder.folder.appendingPathComponent("compiled"))
        return try XCTUnwrap(try folder.run(runtime).run()).rounds[0]
    }

    func testOutputsComeFromBackingsOfOurs() throws {
        let folder = try JobFolder(cells: ["a"])
        script(folder)
        let cell = try cell(folder)
        XCTAssertEqual(cell.status, .done)
        XCTAssertEqual(cell.values, folder.answers.flatMap { $0 })
        XCTAssertEqual(cell.warnings, [])
    }

    func testAModelThatRefusesBackingsIsMeasuredWithoutAndSaysSo() throws {
        let folder = try JobFolder(cells: ["a"])
        script(folder) { $0.failing = ["backedInference": ["toy.mlpackage"]] }
        let cell = try cell(folder)
        XCTAssertEqual(cell.status, .done)
        XCTAssertTrue(try XCTUnwrap(cell.warnings?.first).hasPrefix("output backings were refused"))
    }

    func testAModelThatIgnoresBackingsIsMeasuredAndSaysSo() throws {
        let folder = try JobFolder(cells: ["a"])
        script(folder) { $0.backingsIgnored = ["toy.mlpackage"] }
        let cell = try cell(folder)
        XCTAssertEqual(cell.status, .done)
        XCTAssertEqual(cell.warnings, ["output backings were ignored: Core ML wrote into memory of its own"])
    }

    func testAModelThatDoesNotCompileOrLoadOrRunIsAFailedCell() throws {
        for step in ["compile", "load", "inference"] {
            let folder = try JobFolder(cells: ["a"])
            script(folder) { $0.failing = [step: ["toy.mlpackage"]] }
            let cell = try cell(folder)
            XCTAssertEqual(cell.status, .failed, step)
            XCTAssertTrue(try XCTUnwrap(cell.error).contains("told to fail at \(step)"), step)
        }
    }

    func testAnUnknownOptionIsAFailedCell() throws {
        let folder = try JobFolder(cells: ["a"], changes: ["options": ["speed": "high"]])
        script(folder)
        XCTAssertEqual(try cell(folder).error, "option speed is unknown to Core ML's harness; it knows function, output_backings")
    }

    func testAFunctionOfAPackageIsChosen() throws {
        let folder = try JobFolder(cells: ["a"], changes: ["options": ["function": "text"]])
        script(folder) { $0.functions = ["text"] }
        XCTAssertEqual(try cell(folder).status, .done)
        script(folder) { $0.functions = ["image"] }
        let other = try JobFolder(cells: ["a"], changes: ["options": ["function": "text"]])
        XCTAssertEqual(try cell(other).error, "no function text in toy.mlpackage")
    }

    func testThePlanIsAHistogramOverUnits() throws {
        let folder = try JobFolder(cells: ["a"])
        script(folder) {
            $0.plans = [
                "cpuOnly": [
                    .init("ios18.conv", unit: "cpu", cost: 3), .init("ios18.add", unit: "cpu", cost: nil),
                    .init("ios18.relu", unit: "neuralEngine", cost: 1), .init("const", unit: nil, cost: nil),
                    .init("ios18.gather", unit: nil, cost: nil),
                ]
            ]
        }
        XCTAssertEqual(
            try cell(folder).placement,
            [
                Placement(unit: "cpu", operations: 2, costShare: 0.75),
                Placement(unit: "neuralEngine", operations: 1, costShare: 0.25),
                Placement(unit: "unknown", operations: 1, costShare: 0),
            ])
    }

    func testAnImageIsHandedOverAsPixelsInBGRA() throws {
        let planes = Example(dtype: .uint8, shape: [1, 3, 2, 3], bytes: Data(0..<18))
        let buffer = try PixelBuffer.make(planes: planes)
        CVPixelBufferLockBaseAddress(buffer, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        let base = try XCTUnwrap(CVPixelBufferGetBaseAddress(buffer)).assumingMemoryBound(to: UInt8.self)
        let second = CVPixelBufferGetBytesPerRow(buffer)
        XCTAssertEqual([base[0], base[1], base[2], base[3]], [12, 6, 0, 255])
        XCTAssertEqual([base[second + 8], base[second + 9], base[second + 10]], [17, 11, 5])
    }

    func testRowsOfAPaddedArrayAreFound() {
        XCTAssertEqual(CoreMLModel.offset(ofRow: 5, [1, 2, 3, 4], [96, 48, 16, 1]), 48 + 2 * 16)
    }
}
#endif
