/// Numbers of length 1, and the space that they belong to. Of different spaces they cannot be compared.
public protocol Embedded: Sendable {
    var values: [Float] { get }
    var embeddingSpace: String { get }
}

public struct Embedding: Embedded, Equatable {
    public let values: [Float]
    public let embeddingSpace: String

    public init(values: [Float], embeddingSpace: String) { (self.values, self.embeddingSpace) = (values, embeddingSpace) }
}

public struct TextEmbedding: Embedded, Equatable {
    public let values: [Float]
    public let embeddingSpace: String
    /// How many tokens the text has, start and end included.
    public let tokens: Int
    /// The text has more tokens than the network reads, and the rest was left out.
    public let cut: Bool
    /// That rest, cleaned.
    public let rest: String

    public init(values: [Float], embeddingSpace: String, tokens: Int, rest: String) {
        (self.values, self.embeddingSpace, self.tokens) = (values, embeddingSpace, tokens)
        (cut, self.rest) = (!rest.isEmpty, rest)
    }
}

public struct Classification: Sendable, Equatable {
    public let label: String
    public let probability: Double
}

/// Labels to classify pictures with, embedded once.
public struct Labels: Sendable {
    public let names: [String]
    public let embeddingSpace: String
    let vectors: [[Float]]
    let scale: Double
    let bias: Double?

    /// The most probable first; all together 1, but for a network with a `logitBias`, which judges each label alone.
    public func classify(_ embedding: some Embedded) throws -> [Classification] {
        try checkSpace(embedding, embeddingSpace, "the labels")
        return ranked(names, probabilities(embedding.values, vectors, scale, bias))
    }
}

/// Refuses an embedding of another space than `space`, which is that of `whose`.
func checkSpace(_ embedding: some Embedded, _ space: String, _ whose: String) throws {
    guard embedding.embeddingSpace != space else { return }
    throw MobileCLIPError(.space, "the embedding is of \(embedding.embeddingSpace) and \(whose) of \(space): they cannot be compared")
}

func ranked(_ names: [String], _ probabilities: [Double]) -> [Classification] {
    let found = zip(names, probabilities).map { Classification(label: $0, probability: $1) }
    return found.sorted { $0.probability > $1.probability }
}
