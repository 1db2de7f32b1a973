import Foundation

/// From when on a match counts: what a bundle that was exported with `--background` says (docs/search.md).
public struct Relevance: Sendable {
    /// The background's embeddings [images, dimension], an integer times `scale` is a component.
    private let background: [Int8]
    private let weights: [Float]
    private let numbers: Manifest.RelevanceNumbers

    init(_ content: Data, _ numbers: Manifest.RelevanceNumbers, _ dimension: Int, named name: String) throws {
        let file = try SafeTensors(content, named: name)
        guard let background = file["background"]?.int8, let weights = file["weights"]?.float32, weights.count == dimension,
            file["background"]?.shape == [numbers.images, dimension], numbers.images > 0, weights.allSatisfy(\.isFinite),
            [numbers.scale, numbers.spread, numbers.intercept, numbers.slope].allSatisfy(\.isFinite)
        else { throw MobileCLIPError(.bundle, "\(name) does not hold what the manifest says of it: export the bundle again") }
        (self.background, self.weights, self.numbers) = (background, weights, numbers)
    }

    /// The cosine that a match of this text needs in a library of `size` pictures.
    public func needed(_ text: some Embedded, size: Int) throws -> Double {
        guard text.values.count == weights.count else {
            throw MobileCLIPError(.space, "the query has \(text.values.count) numbers and the bundle \(weights.count)")
        }
        let asked = try unit(text.values)
        let width = asked.count
        let scores = stride(from: 0, to: background.count, by: width).map { start in
            (0..<width).reduce(0.0) { $0 + Double(background[start + $1]) * Double(asked[$1]) } * numbers.scale
        }
        let mean = scores.reduce(0, +) / Double(scores.count)
        let spread = (scores.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(scores.count)).squareRoot()
        return numbers.intercept + numbers.slope * log(Double(max(size, 1))) - dot(weights, asked) - numbers.spread * spread
    }
}

extension Index {
    /// What a text found.
    public struct Answer: Sendable, Equatable {
        /// Empty where no picture fits.
        public let matches: [Match]
        /// False: say "nothing found".
        public let found: Bool
        /// The cosine that the nearest needs; nil where nothing says one.
        public let needed: Double?
        /// The largest cosine in the index; nil of an empty one.
        public let best: Double?
        /// The space that the index was brought from, whose matches are nearly those of new embeddings; nil of others.
        public let bridgedFrom: String?
    }

    /// Searches, and says "nothing found" where the nearest picture does not fit. Without a `relevance`, for an index of
    /// texts and for one of signs alone, whose scores are no cosines, everything that is nearest is shown. `threshold`: the
    /// cosine that the nearest needs, in place of that. Pictures as queries are not judged.
    public func answer(_ query: some Embedded, relevance: Relevance?, top: Int = 10, threshold: Double? = nil) throws -> Answer {
        try Query.check(threshold: threshold)
        let matches = try search(query, top: top)
        let judged = query is TextEmbedding && description.tower != .text && store != .bitsOnly
        let needed = try threshold ?? (judged ? relevance?.needed(query, size: count) : nil)
        let best = matches.first?.score
        let found = best.map { best in needed.map { best >= $0 } ?? true } ?? false
        return Answer(matches: found ? matches : [], found: found, needed: needed, best: best, bridgedFrom: description.bridgedFrom)
    }
}
