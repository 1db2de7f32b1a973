import Foundation

/// A document whose values have more rules than types; `check` names the field that breaks one.
public protocol Checked {
    func check(_ rules: Rules) throws
}

extension Job: Checked {
    public func check(_ rules: Rules) throws {
        try rules.number(schemaVersion, "schema_version", in: 1...1)
        try rules.text(runId, "run_id", .identifier)
        try rules.number(seed, "seed")
        try self.protocol.check(rules.inside("protocol"))
        for (index, cell) in cells.enumerated() { try cell.check(rules.inside("cells.\(index)")) }
        let ids = Set(cells.map(\.id))
        try rules.hold(!cells.isEmpty && ids.count == cells.count, "cells", "must be of different ids, one at least")
        let turns = Set(order)
        let (count, tooMany) = cells.count.multipliedReportingOverflow(by: self.protocol.rounds)
        let whole = !tooMany && order.count == turns.count && order.count == count
            && turns.allSatisfy { ids.contains($0.cell) && (0..<self.protocol.rounds).contains($0.round) }
        try rules.hold(whole, "order", "must hold every round of every cell once")
    }
}

extension MeasurementProtocol: Checked {
    public func check(_ rules: Rules) throws {
        try rules.text(name, "name", .identifier)
        try rules.number(warmUpIterations, "warm_up_iterations")
        try rules.number(rounds, "rounds", in: 1...Rules.largest)
        try rules.number(iterationsPerRound, "iterations_per_round", in: 1...Rules.largest)
        try rules.hold(secondsPerRound >= 0, "seconds_per_round", "must be at least 0")
        try rules.hold(trimFraction >= 0 && trimFraction < 0.5, "trim_fraction", "must be in [0, 0.5)")
        try rules.number(goldenInputs ?? 0, "golden_inputs")
        try rules.hold((0...3600).contains(coolSeconds ?? 0), "cool_seconds", "must be in [0, 3600]")
        try rules.hold((0...60_000).contains(paceMilliseconds ?? 0), "pace_milliseconds", "must be in [0, 60000]")
    }
}

extension Cell: Checked {
    public func check(_ rules: Rules) throws {
        try rules.text(id, "id", .identifier)
        try rules.text(file, "file", .path)
        try rules.text(sha256, "sha256", .sha256)
        try rules.number(bytes, "bytes")
        try rules.text(runtime, "runtime", .identifier)
        try rules.number(threads, "threads", in: 1...1024)
        try rules.shape(input.shape, "input.shape")
        try rules.shape(output.shape, "output.shape")
        try rules.hold((golden == nil) == (gate == nil), "gate", "and golden come together")
        for (name, tensor) in [("inputs", golden?.inputs), ("outputs", golden?.outputs)] {
            guard let tensor else { continue }
            try rules.text(tensor.file, "golden.\(name).file", .path)
            try rules.text(tensor.sha256, "golden.\(name).sha256", .sha256)
            try rules.shape(tensor.shape, "golden.\(name).shape")
        }
    }
}

/// Conditions on values of a document, with their paths in it.
public struct Rules {
    /// The largest whole number that every language's JSON reader keeps exactly.
    static let largest = (1 << 53) - 1

    var place = ""

    func inside(_ name: String) -> Rules { Rules(place: place + name + ".") }

    func hold(_ holds: Bool, _ field: String, _ complaint: String) throws {
        if !holds { throw HarnessError("\(place)\(field): \(field.split(separator: ".").last!) \(complaint)") }
    }

    func number(_ value: Int, _ field: String, in range: ClosedRange<Int> = 0...largest) throws {
        try hold(range.contains(value), field, "must be in \(range.lowerBound)...\(range.upperBound)")
    }

    func shape(_ sizes: [Int], _ field: String) throws {
        for size in sizes { try number(size, field, in: 1...Rules.largest) }
    }

    func text(_ value: String, _ field: String, _ form: TextForm) throws {
        try hold(form.holds(value), field, "is no \(form.rawValue)")
    }
}

/// Names that are safe in file systems and shells; docs/measuring.md.
enum TextForm: String {
    case identifier
    case path = "relative path"
    case sha256 = "SHA-256"

    func holds(_ text: String) -> Bool {
        switch self {
        case .identifier: return text.wholeMatch(of: #/[A-Za-z0-9][A-Za-z0-9._+\-]{0,119}/#) != nil
        case .path: return text.wholeMatch(of: #/[A-Za-z0-9_][A-Za-z0-9._+\-]*(/[A-Za-z0-9_][A-Za-z0-9._+\-]*)*/#) != nil
        case .sha256: return text.wholeMatch(of: #/[0-9a-f]{64}/#) != nil
        }
    }
}
