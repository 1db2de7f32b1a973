import Foundation

/// The answers of a cell that its job shows, against what came: for the screen of a device that measures by itself. The
/// verdict that counts is of all answers, and is given where the job was written.
public struct ShownAnswers: Equatable, Sendable {
    /// Number of golden inputs with an answer here, and number of golden inputs that ran.
    public let shown: Int
    public let asked: Int
    /// The worst of the shown ones, in the gate's own metric.
    public let worst: Double
    public let gate: Gate

    public var areRight: Bool {
        gate.metric == .cosine ? worst >= gate.bound : worst <= gate.bound
    }

    /// Nil where the job shows no answers, or the round brought none.
    /// - Parameter folder: where job.json lies.
    public init?(_ cell: Cell, round: RoundResult, folder: URL) throws {
        guard let tensor = cell.golden?.outputs, let gate = cell.gate, let raw = round.answers else { return nil }
        let file = folder.appendingPathComponent(tensor.file)
        guard try FileHash.of(file) == tensor.sha256 else {
            throw HarnessError("\(tensor.file) did not arrive as it was sent; copy the job's folder again")
        }
        let width = tensor.shape.dropFirst().reduce(1, *)
        let (wanted, found) = (ShownAnswers.floats(try Data(contentsOf: file)), ShownAnswers.floats(raw))
        shown = tensor.shape[0]
        asked = found.count / width
        guard wanted.count == shown * width, asked >= shown else { return nil }
        self.gate = gate
        let deviations = (0..<shown).map { row in
            ShownAnswers.deviation(wanted[row * width..<(row + 1) * width], found[row * width..<(row + 1) * width], gate.metric)
        }
        worst = gate.metric == .cosine ? deviations.min()! : deviations.max()!
    }

    /// As `parity.metrics.compare` has it: what is not finite, or of no length, passes no gate.
    private static func deviation(_ wanted: ArraySlice<Double>, _ found: ArraySlice<Double>, _ metric: Gate.Metric) -> Double {
        guard found.allSatisfy(\.isFinite) else { return metric == .cosine ? -1 : .infinity }
        let pairs = Array(zip(wanted, found))
        func length(_ values: some Sequence<Double>) -> Double { values.reduce(0) { $0 + $1 * $1 }.squareRoot() }
        switch metric {
        case .cosine:
            let lengths = length(wanted) * length(found)
            return lengths > 0 ? pairs.reduce(0) { $0 + $1.0 * $1.1 } / lengths : -1
        case .relative: return length(pairs.map { $0.1 - $0.0 }) / length(wanted)
        case .probabilities: return pairs.map { abs($0.1 - $0.0) }.max() ?? .infinity
        }
    }

    private static func floats(_ raw: Data) -> [Double] {
        stride(from: 0, to: raw.count / 4 * 4, by: 4).map { place in
            let bits = (0..<4).reduce(UInt32(0)) { $0 | UInt32(raw[raw.startIndex + place + $1]) << (8 * UInt32($1)) }
            return Double(Float(bitPattern: bits))
        }
    }
}

extension BenchmarkRecord {
    /// What a screen says of a cell: its median if its shown answers are right, or if none are shown; else what is wrong.
    /// - Parameter folder: where job.json lies.
    public func verdict(on cell: Cell, folder: URL) -> String {
        let all = rounds.filter { $0.cell == cell.id }
        if let error = all.compactMap(\.error).first { return error }
        let count = "\(all.count) of \(job.protocol.rounds) rounds"
        let median = medianNanoseconds(of: cell.id).map { String(format: "%.3f ms, ", Double($0) / 1e6) } ?? ""
        do {
            guard let first = all.first(where: { $0.round == 0 }), let seen = try ShownAnswers(cell, round: first, folder: folder) else {
                return "\(median)\(count), answers not compared"
            }
            let figure = String(format: "%@ %.6g (gate %.6g), %d of %d", seen.gate.metric.rawValue, seen.worst, seen.gate.bound, seen.shown, seen.asked)
            return seen.areRight ? "\(median)\(count), answers right: \(figure)" : "WRONG ANSWERS: \(figure)"
        } catch {
            return (error as? HarnessError)?.description ?? error.localizedDescription
        }
    }
}
