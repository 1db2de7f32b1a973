import Foundation

/// How near a model's outputs are to the checkpoint's; docs/benchmark.md. In float64, the worst input counts.
struct GoldenCheck {
    private var cosine = 1.0
    private var relative: Double? = 0
    private var inputs = 0

    mutating func add(output: [Float], answer: [Float]) {
        inputs += 1
        guard output.count == answer.count, output.allSatisfy(\.isFinite) else {
            (cosine, relative) = (-1, nil)
            return
        }
        let pairs = zip(answer, output).map { (Double($0), Double($1)) }
        let norm = sqrt(pairs.reduce(0) { $0 + $1.0 * $1.0 })
        let other = sqrt(pairs.reduce(0) { $0 + $1.1 * $1.1 })
        let difference = sqrt(pairs.reduce(0) { $0 + ($1.1 - $1.0) * ($1.1 - $1.0) })
        // An embedding of zeros has no direction: as wrong as one can be.
        cosine = min(cosine, norm * other == 0 ? -1 : pairs.reduce(0) { $0 + $1.0 * $1.1 } / (norm * other))
        relative = relative.flatMap { norm == 0 ? nil : max($0, difference / norm) }
    }

    func outcome(_ gate: Gate) -> GoldenOutcome {
        let passed: Bool
        switch gate.metric {
        case .cosine: passed = cosine >= gate.bound
        case .relative: passed = relative.map { $0 <= gate.bound } ?? false
        }
        return GoldenOutcome(inputs: inputs, cosine: cosine, relative: relative, passed: passed)
    }

    func explain(_ gate: Gate) -> String {
        switch gate.metric {
        case .cosine: return String(format: "wrong answers: worst cosine %.6f, wanted at least %g", cosine, gate.bound)
        case .relative:
            let found = relative.map { String(format: "%.3g", $0) } ?? "not finite"
            return "wrong answers: worst relative deviation \(found), wanted at most \(String(format: "%g", gate.bound))"
        }
    }
}
