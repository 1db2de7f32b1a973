import Foundation

/// Labels that Python's `learn_labels` learned from pictures (labels.safetensors), for a bundle with embeddings.
public struct LearnedLabels: Sendable {
    private struct Description: Decodable {
        struct Rule: Decodable {
            let ratios: [Double]
            let share: Double
            let examples: Int
            let background: Int
        }
        let format: String
        let space: String
        let labels: [String]
        let thresholds: Rule
        enum CodingKeys: String, CodingKey {
            case format, labels, thresholds
            case space = "embedding_space"
        }

        var sound: Bool {
            let (one, most) = (0.0...1, 1 << 24)
            return (2...100_000).contains(labels.count) && !labels.contains(none) && thresholds.ratios.count == labels.count
                && labels.allSatisfy { $0.unicodeScalars.count <= 1000 }
                && thresholds.ratios.allSatisfy { (0...1e6).contains($0) } && one.contains(thresholds.share)
                && (1...most).contains(thresholds.examples) && (0...most).contains(thresholds.background)
        }
    }
    private struct Format: Decodable { let format: String }
    private static let none = "none of these"
    private static let format = "mobileclip-deploy labels "

    /// Without "none of these".
    public let names: [String]
    public let embeddingSpace: String
    private let rows: [[Float]]
    private let biases: [Float]
    private let thresholds: Manifest.Thresholds

    public init(contentsOf file: URL) throws {
        guard let content = try? Data(contentsOf: file) else {
            throw MobileCLIPError(.bundle, "\(file.lastPathComponent) cannot be read")
        }
        try self.init(content)
    }

    /// A file that is in memory already.
    public init(_ content: Data) throws {
        let wrong = MobileCLIPError(.bundle, "not a valid file of labels: learn them again")
        guard let file = try? SafeTensors(content, named: "labels"), let text = file.labels.map({ Data($0.utf8) }), keyTwice(text) == nil,
            let format = try? JSONDecoder().decode(Format.self, from: text).format
        else { throw wrong }
        if format.hasPrefix(Self.format), let version = Int(format.dropFirst(Self.format.count)), version > 1 {
            throw MobileCLIPError(.newer, "the labels are a file of \"\(format)\", and this package reads 1: update it")
        }
        guard format == Self.format + "1", let told = try? JSONDecoder().decode(Description.self, from: text), told.sound,
            let weights = file["weights"]?.float32, let shape = file["weights"]?.shape, shape.count == 2, shape[1] > 0,
            shape[0] == told.labels.count + 1, let biases = file["biases"]?.float32, file["biases"]?.shape == [shape[0]],
            file["digests"]?.dtype == "U8", file["digests"]?.shape == [told.thresholds.examples + told.thresholds.background, 8],
            weights.allSatisfy(\.isFinite), biases.allSatisfy(\.isFinite)
        else { throw wrong }
        (names, embeddingSpace, self.biases) = (told.labels, told.space, biases)
        rows = stride(from: 0, to: weights.count, by: shape[1]).map { Array(weights[$0..<$0 + shape[1]]) }
        thresholds = Manifest.Thresholds(ratios: told.thresholds.ratios, share: told.thresholds.share)
    }

    /// All labels and "none of these", the most probable first.
    public func classify(_ embedding: some Embedded) throws -> [Classification] {
        ranked(names + [Self.none], try shares(embedding))
    }

    /// The labels that are present, the most probable first; empty where none of them is.
    public func tags(_ embedding: some Embedded) throws -> [Classification] {
        let shares = try shares(embedding)
        return thresholds.present(shares).map { Classification(label: names[$0], probability: shares[$0]) }
    }

    private func shares(_ embedding: some Embedded) throws -> [Double] {
        try checkSpace(embedding, embeddingSpace, "the labels")
        guard embedding.values.count == rows[0].count else {
            throw MobileCLIPError(.space, "the embedding has \(embedding.values.count) numbers and the labels take \(rows[0].count)")
        }
        let vector = try unit(embedding.values)
        return softmax(zip(rows, biases).map { dot(vector, $0) + Double($1) }).map { Double(Float($0)) }
    }
}
