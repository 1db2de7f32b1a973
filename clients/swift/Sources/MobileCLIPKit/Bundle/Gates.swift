/// How near a tower's golden answers have to be to the checkpoint's.
public struct Gate: Sendable, Equatable {
    public enum Metric: String, Sendable { case cosine, relative }
    public let metric: Metric
    public let bound: Double

    public init(_ metric: Metric, _ bound: Double) { (self.metric, self.bound) = (metric, bound) }

    /// By a tower's precision: tests hold this to mobileclip_deploy.parity.
    public static let byPrecision: [String: Gate] = [
        "fp32": Gate(.relative, 1e-4), "fp16": Gate(.cosine, 0.999), "w8": Gate(.cosine, 0.99), "w8a16": Gate(.cosine, 0.99),
        "w8a8": Gate(.cosine, 0.98), "w6p": Gate(.cosine, 0.98), "w4p": Gate(.cosine, 0.98), "w4p-p50": Gate(.cosine, 0.98),
        "mixed": Gate(.cosine, 0.98), "w4": Gate(.cosine, 0.98),
    ]

    func holds(_ cosine: Double, _ relative: Double) -> Bool { metric == .cosine ? cosine >= bound : relative <= bound }
}
