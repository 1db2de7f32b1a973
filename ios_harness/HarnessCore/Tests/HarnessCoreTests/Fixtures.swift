import Foundation
import XCTest

@testable import HarnessCore

/// Where tests write; it goes with their process.
let place: URL = {
    atexit { try? FileManager.default.removeItem(at: place) }
    return FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
}()

/// A job of cells that are all alike, in a folder of its own with its model and golden inputs; the outputs are the stand-in's.
struct JobFolder {
    let folder: URL
    let asset: String
    let answers: [[Float]] = [[1, 0, 2], [0.5, -1, 0]]
    let inputs: [[Int32]] = [[49406, 7, 49407, 0], [49406, 8, 49407, 0]]

    init(
        cells: [String] = ["a", "b"], rounds: Int = 2, changes: [String: Any] = [:], reload: Bool = false,
        asset: String = "toy.mlpackage", rules: [String: Any] = [:]
    ) throws {
        self.asset = asset
        folder = place.appendingPathComponent(UUID().uuidString)
        let package = folder.appendingPathComponent("models/\(asset)/Data")
        try FileManager.default.createDirectory(at: package, withIntermediateDirectories: true)
        try Data("weights".utf8).write(to: package.appendingPathComponent("weight.bin"))
        try Data(inputs.flatMap { $0 }.flatMap { withUnsafeBytes(of: $0.littleEndian, Array.init) }).write(to: golden("inputs"))
        try Data(answers.flatMap { $0 }.flatMap { withUnsafeBytes(of: $0, Array.init) }).write(to: golden("outputs"))
        let job: [String: Any] = [
            "schema_version": 1, "run_id": "run-1", "seed": 7,
            "protocol": [
                "name": "toy", "warm_up_iterations": 2, "rounds": rounds, "iterations_per_round": 5, "seconds_per_round": 0,
                "reload_each_round": reload, "trim_fraction": 0.2, "statistic": "median",
            ].merging(rules) { $1 },
            "cells": try cells.map { try cell($0).merging(changes) { $1 } },
            "order": (0..<rounds).flatMap { round in cells.map { ["cell": $0, "round": round] as [String: Any] } },
        ]
        try JSONSerialization.data(withJSONObject: job).write(to: folder.appendingPathComponent("job.json"))
    }

    func golden(_ name: String) -> URL { folder.appendingPathComponent("\(name).bin") }

    private func cell(_ id: String) throws -> [String: Any] {
        let package = folder.appendingPathComponent("models/\(asset)")
        func tensor(_ name: String, _ dtype: String, _ shape: [Int]) throws -> [String: Any] {
            ["file": "\(name).bin", "sha256": try FileHash.of(golden(name)), "dtype": dtype, "shape": shape]
        }
        return [
            "id": id, "label": id, "competitor": false, "tower": "text", "file": "models/\(asset)",
            "sha256": try FileHash.of(package), "bytes": 7, "runtime": "coreml", "compute_units": "cpuOnly", "threads": 1,
            "input": ["name": "text", "dtype": "int32", "shape": [1, 4]],
            "output": ["name": "final_emb_1", "dtype": "float32", "shape": [1, 3]],
            "golden": ["inputs": try tensor("inputs", "int32", [2, 4])],
            "gate": ["metric": "cosine", "bound": 0.999],
        ]
    }

    func run(_ runtime: ModelRuntime) throws -> BenchmarkRun {
        try BenchmarkRun(
            jobFolder: folder, outputFolder: folder.appendingPathComponent("results"), runtimes: [runtime], machine: Machine())
    }
}

extension RoundResult {
    /// Its answers as numbers.
    var values: [Float]? { answers?.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) } }
}

extension BenchmarkRecord {
    func rounds(of cell: String) -> [RoundResult] { rounds.filter { $0.cell == cell } }
}

/// A runtime of the test's own: gives fixed answers, and counts its calls.
final class FakeRuntime: ModelRuntime {
    struct Broken: LocalizedError { let errorDescription: String? = "broken\nin two lines" }

    let name = "coreml"
    let version = "fake"
    var answer: (Example) -> [Float]
    var failing: (String, Int) -> Bool = { _, _ in false }
    private(set) var loads: [String] = []
    private(set) var inferences = 0
    var planBytes = 0

    init(_ folder: JobFolder) {
        answer = { example in
            let row = example.bytes.withUnsafeBytes { Array($0.bindMemory(to: Int32.self)) }
            return folder.answers[folder.inputs.firstIndex(of: row)!]
        }
    }

    func install(_ cell: Cell, at file: URL, anew: Bool) throws -> Int? { nil }
    func plan(_ cell: Cell) throws -> ModelPlan {
        // As Core ML, which loads the model for it.
        let block = UnsafeMutableRawPointer.allocate(byteCount: max(planBytes, 1), alignment: 1 << 14)
        memset(block, 1, planBytes)
        block.deallocate()
        return ModelPlan(placements: [Placement(unit: "cpu", operations: 3, costShare: 1)])
    }

    func load(_ cell: Cell, at file: URL) throws -> LoadedModel {
        loads.append(cell.id)
        if failing(cell.id, loads.filter { $0 == cell.id }.count) { throw Broken() }
        return Model(self)
    }

    final class Model: LoadedModel {
        let warnings: [String] = []
        private let runtime: FakeRuntime
        private var example: Example?

        init(_ runtime: FakeRuntime) { self.runtime = runtime }
        func prepare(_ example: Example) throws { self.example = example }
        func infer() throws { runtime.inferences += 1 }
        func output() throws -> [Float] { runtime.answer(example!) }
    }
}
