import Foundation

public enum Tower: String, Sendable, CaseIterable, Codable {
    case image, text
}

/// The part of a bundle's manifest.json that a client needs.
public struct Manifest: Decodable, Sendable {
    public struct Tensor: Decodable, Sendable {
        public let name: String
        public let dtype: String
        /// A dimension of 0 is free.
        public let shape: [Int]
        public let range: [Double]?
    }

    public struct TowerEntry: Decodable, Sendable {
        /// Relative to the bundle.
        public let file: String
        public let function: String?
        public let sha256: String
        public let precision: String
        public let input: Tensor
        public let output: Tensor
        public let contexts: [Int]?
    }

    public struct Tokens: Decodable, Sendable {
        public let kind: String?
        public let vocabularySize: Int
        public let contextLength: Int
        /// Nil where texts begin without a token.
        public let start: Int32?
        public let end: Int32
        public let padding: Int32

        enum CodingKeys: String, CodingKey {
            case kind
            case vocabularySize = "vocab_size"
            case contextLength = "context_length"
            case start = "sot"
            case end = "eot"
            case padding = "pad"
        }
    }

    struct Classes: Decodable, Sendable {
        let labels: [String]
        let tags: Tags?
    }
    struct Tags: Decodable, Sendable { let thresholds: Thresholds }
    struct Thresholds: Decodable, Sendable {
        let ratios: [Double]
        let share: Double

        /// The indices of the labels that are present, the most probable first. `shares`: of the labels, then of "none of
        /// these".
        func present(_ shares: [Double]) -> [Int] {
            let (labels, none) = (shares.dropLast(), shares.last ?? 1)
            let least = max(share * (labels.max() ?? 0), 1e-6)
            let found = labels.indices.filter { labels[$0] >= max(ratios[$0] * none, least) }
            return found.sorted { (labels[$1], $0) < (labels[$0], $1) }
        }
    }

    struct RelevanceNumbers: Decodable, Sendable {
        struct File: Decodable, Sendable { let file: String }
        let file: File
        let images: Int
        let scale: Double
        let spread: Double
        let intercept: Double
        let slope: Double
    }

    public let variant: String
    public let embeddingSpace: String
    public let target: String
    public let dimension: Int
    public let logitScale: Double
    /// Of networks that judge each pair of picture and text alone, by a sigmoid; nil of those that share one probability
    /// among all labels.
    public let logitBias: Double?
    /// Of the embedding space: an int8 integer times this is a component; nil of bundles of earlier versions.
    public let int8Scale: Double?
    public let template: String
    public let tokens: Tokens?
    public let preprocess: Preprocess
    public let image: TowerEntry?
    public let text: TowerEntry?
    let classifier: Classes?
    let relevance: RelevanceNumbers?

    private enum CodingKeys: String, CodingKey {
        case variant, target, template, preprocess, towers, classifier, relevance
        case embeddingSpace = "embedding_space"
        case dimension = "embed_dim"
        case logitScale = "logit_scale"
        case logitBias = "logit_bias"
        case int8Scale = "int8_scale"
        case tokens = "tokenizer"
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        variant = try fields.decode(String.self, forKey: .variant)
        embeddingSpace = try fields.decode(String.self, forKey: .embeddingSpace)
        target = try fields.decode(String.self, forKey: .target)
        dimension = try fields.decode(Int.self, forKey: .dimension)
        logitScale = try fields.decode(Double.self, forKey: .logitScale)
        logitBias = try fields.decodeIfPresent(Double.self, forKey: .logitBias)
        int8Scale = try fields.decodeIfPresent(Double.self, forKey: .int8Scale)
        template = try fields.decode(String.self, forKey: .template)
        tokens = try fields.decodeIfPresent(Tokens.self, forKey: .tokens)
        preprocess = try fields.decode(Preprocess.self, forKey: .preprocess)
        let towers = try fields.decode([String: TowerEntry].self, forKey: .towers)
        (image, text) = (towers["image"], towers["text"])
        classifier = try fields.decodeIfPresent(Classes.self, forKey: .classifier)
        if let classes = classifier, let tags = classes.tags, tags.thresholds.ratios.count + 1 != classes.labels.count {
            throw DecodingError.dataCorruptedError(forKey: .classifier, in: fields, debugDescription: "ratios")
        }
        relevance = try fields.decodeIfPresent(RelevanceNumbers.self, forKey: .relevance)
    }

    public var towers: [Tower] { Tower.allCases.filter { self[$0] != nil } }

    public subscript(tower: Tower) -> TowerEntry? { tower == .image ? image : text }
}

extension Manifest {
    static let newestSchema = 2
    /// Targets that this package has an engine for, on one system or another.
    static let targets = ["coreml", "coreai", "onnx"]

    struct Schema: Decodable {
        let version: Int
        enum CodingKeys: String, CodingKey { case version = "schema_version" }
    }

    /// Reads manifest.json, and refuses what this package would not answer rightly.
    public static func read(_ content: Data) throws -> Manifest {
        guard let schema = try? JSONDecoder().decode(Schema.self, from: content), schema.version >= 1 else {
            throw MobileCLIPError(.bundle, "manifest.json is no manifest of a bundle: export the bundle again")
        }
        if let key = keyTwice(content) {
            throw MobileCLIPError(.bundle, "manifest.json has the key \(key) twice: export the bundle again")
        }
        guard schema.version <= newestSchema else {
            throw MobileCLIPError(
                .newer, "the bundle has schema version \(schema.version), and this package reads up to \(newestSchema): update it")
        }
        let manifest: Manifest
        do {
            manifest = try JSONDecoder().decode(Manifest.self, from: content)
        } catch {
            throw MobileCLIPError(.bundle, "manifest.json is not understood (\(told(error))): export the bundle again")
        }
        try manifest.check()
        try manifest.relevance.map { try check(file: $0.file.file) }
        return manifest
    }

    private func check() throws {
        guard Manifest.targets.contains(target) else {
            let known = Manifest.targets.joined(separator: ", ")
            throw MobileCLIPError(.bundle, "the bundle is for \(target), and this package knows \(known): export it for one of them")
        }
        let share = preprocess.cropFraction ?? 1
        guard !towers.isEmpty, (1...65536).contains(dimension), logitScale.isFinite, (logitBias ?? 0).isFinite,
            (1...8192).contains(preprocess.size), share > 0, share <= 1, (tokens?.contextLength ?? 2) >= 2
        else {
            throw MobileCLIPError(.bundle, "manifest.json names no towers, or sizes that are none: export the bundle again")
        }
    }

    /// A file of the bundle: as an address, too, it leads nowhere else.
    static func check(file: String) throws {
        let parts = file.split(separator: "/", omittingEmptySubsequences: false)
        guard !parts.contains(where: { ["", ".", ".."].contains($0) }), !file.contains(where: { "\\%?#:".contains($0) }) else {
            throw MobileCLIPError(.bundle, "manifest.json names a file outside of the bundle: \(file)")
        }
    }

    /// A tower takes what this package makes: pixels [1, 3, S, S] in [0, 1] or bytes, ids [1, L] of CLIP's vocabulary.
    @discardableResult func check(_ tower: Tower) throws -> TowerEntry {
        guard let entry = self[tower] else {
            throw MobileCLIPError(.bundle, "the bundle has no \(tower.rawValue) tower: export it with one")
        }
        try Manifest.check(file: entry.file)
        guard target != "onnx" || entry.function == nil else {
            throw MobileCLIPError(
                .bundle,
                "\(entry.file) has both towers, and this package reads a file of each: export with --joint in place of --joint only")
        }
        let (input, wanted, types): (Tensor, [Int], [String])
        switch tower {
        case .image:
            (input, wanted, types) = (entry.input, [3, preprocess.size, preprocess.size], ["float32", "uint8"])
        case .text:
            guard let tokens else { throw MobileCLIPError(.bundle, "the bundle has a text tower and no tokenizer: export it again") }
            guard tokens.kind ?? "clip" == "clip" else {
                throw MobileCLIPError(
                    .bundle, "a tokenizer of kind \(tokens.kind ?? "") is not known to this package: update it, or load the image tower alone")
            }
            (input, wanted, types) = (entry.input, [tokens.contextLength], ["int32", "int64"])
        }
        let range = input.range ?? (input.dtype == "uint8" ? [0, 255] : [0, 1])
        let fits = tower == .text || range == (input.dtype == "uint8" ? [0, 255] : [0, 1])
        guard types.contains(input.dtype), fits, input.shape.count == wanted.count + 1, Array(input.shape.dropFirst()) == wanted
        else {
            throw MobileCLIPError(
                .bundle,
                "the \(tower.rawValue) tower takes \(input.dtype) \(input.shape), which this package does not make: "
                    + "export without --layout and --input")
        }
        return entry
    }
}

/// What a decoder did not understand, in words.
private func told(_ error: any Error) -> String {
    func place(_ context: DecodingError.Context, _ key: String = "") -> String {
        (context.codingPath.map(\.stringValue) + [key]).filter { !$0.isEmpty }.joined(separator: ".")
    }
    switch error {
    case DecodingError.keyNotFound(let key, let context): return "no \(place(context, key.stringValue))"
    case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
        return "\(place(context)) is of another kind"
    case DecodingError.dataCorrupted(let context) where !context.codingPath.isEmpty:
        return "\(place(context)) has a value that is not known"
    default: return "it is no JSON"
    }
}
