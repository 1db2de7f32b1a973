import Foundation

/// A bundle that mobileclip-deploy exported, loaded once: the same pixels (Pillow's, to the bit), the same tokens
/// (open_clip's) and the same answers as in Python. Loading takes as long as many inferences: keep it.
public final class MobileCLIP: Sendable {
    public let manifest: Manifest
    /// Nil of bundles that were exported without `--background`.
    public let relevance: Relevance?
    let files: BundleFiles
    /// Nil where the text tower was not loaded; for an app that runs it by itself.
    public let tokenizer: Tokenizer?
    let towers: Towers

    /// - Parameters:
    ///   - bundle: the folder; in an app a folder reference among its resources.
    ///   - computeUnits: `.all` lets the system choose. `selfTest()` falls back where a unit answers wrongly.
    ///   - towers: those to load; nil: all that the bundle has.
    ///   - engine: what runs the towers; nil: Core ML or Core AI, by the bundle's target.
    ///   - lock: OWNER--NAME.lock.json, which `publish` writes: each file is held to it.
    /// - Throws: `MobileCLIPError` before any model is loaded where the bundle is not understood.
    public static func load(
        bundle: URL, computeUnits: ComputeUnits = .all, towers: [Tower]? = nil, engine: (any Engine)? = nil, lock: URL? = nil
    ) async throws -> MobileCLIP {
        let stored = try BundleFiles(bundle, lock: lock)
        let manifest = try Manifest.read(try stored.read("manifest.json"))
        let engine = try engine ?? systemEngine(manifest.target)
        guard engine.targets.contains(manifest.target) else {
            throw MobileCLIPError(
                .bundle, "the bundle is for \(manifest.target), and the engine runs \(engine.targets.joined(separator: ", "))")
        }
        var files: [Tower: (entry: Manifest.TowerEntry, file: URL)] = [:]
        for tower in towers ?? manifest.towers {
            let entry = try manifest.check(tower)
            files[tower] = (entry, try stored.tower(entry.file))
        }
        var tokenizer: Tokenizer?
        if files[.text] != nil, let tokens = manifest.tokens {
            tokenizer = try Tokenizer(
                vocabulary: try stored.read("tokenizer/vocab.json"), merges: try stored.read("tokenizer/merges.txt"),
                settings: tokens)
        }
        let relevance = try manifest.relevance.map {
            try Relevance(try stored.read($0.file.file), $0, manifest.dimension, named: $0.file.file)
        }
        let loaded = try await Towers(engine, files, computeUnits)
        return MobileCLIP(manifest, relevance, stored, tokenizer, loaded)
    }

    private init(_ manifest: Manifest, _ relevance: Relevance?, _ files: BundleFiles, _ tokenizer: Tokenizer?, _ towers: Towers) {
        (self.manifest, self.relevance, self.files) = (manifest, relevance, files)
        (self.tokenizer, self.towers) = (tokenizer, towers)
    }

    /// Embeddings of spaces with other names cannot be compared.
    public var embeddingSpace: String { manifest.embeddingSpace }

    /// The side of the square that a picture is cut to, in pixels.
    public var imageSize: Int { manifest.preprocess.size }

    /// A picture as the image tower takes it: float32 planes [3, S, S] in [0, 1], for an app that runs it by itself.
    public func prepare(_ picture: Picture) throws -> [Float] { try manifest.preprocess.pixels(try picture.rgb()) }

    /// Where the towers run: the requested unit, or the one that `selfTest()` fell back to.
    public var computeUnits: ComputeUnits { get async { await towers.units } }

    /// The embedding of a text, of length 1. `cut` says that it has more tokens than the network reads.
    public func embed(text: String) async throws -> TextEmbedding {
        _ = try await towers.runner(.text)
        guard let tokenizer else {
            throw MobileCLIPError(.bundle, "the bundle has no tokenizer: export it again")
        }
        let (ids, tokens, rest) = tokenizer.ids(text)
        let values = try unit(try await run(.text, .ids(ids)))
        return TextEmbedding(values: values, embeddingSpace: embeddingSpace, tokens: tokens, rest: rest)
    }

    /// The embedding of a picture, of length 1.
    public func embed(image picture: Picture) async throws -> Embedding {
        try await embedding(of: try prepare(picture))
    }

    /// The same of a `CGImage`, a `CVPixelBuffer`, a file: decoded where the caller is, embedded elsewhere.
    public func embed(
        image source: some PictureSource, isolation: isolated (any Actor)? = #isolation
    ) async throws -> Embedding {
        try await embed(image: try source.picture() as Picture)
    }

    /// The embedding of a tower's own input: float32 planes [3, S, S] with values in [0, 1]. Values outside are refused:
    /// networks answer them plausibly and wrongly. Core ML's images take whole steps of 1/255.
    public func embed(pixels: [Float]) async throws -> Embedding {
        let size = 3 * imageSize * imageSize
        guard pixels.count == size else {
            throw MobileCLIPError(.range, "\(pixels.count) values, where the network takes \(size)")
        }
        guard pixels.allSatisfy({ $0 >= 0 && $0 <= 1 }) else {
            throw MobileCLIPError(.range, "pixel values lie outside [0, 1]: divide bytes by 255")
        }
        return try await embedding(of: pixels)
    }

    private func embedding(of pixels: [Float]) async throws -> Embedding {
        guard manifest.classifier == nil else {
            throw MobileCLIPError(.bundle, "the bundle is a classifier, which gives probabilities: ask classify(image:)")
        }
        return Embedding(values: try unit(try await run(.image, .pixels(pixels))), embeddingSpace: embeddingSpace)
    }

    /// What a tower gives; what its runtime throws is a `MobileCLIPError`, too.
    private func run(_ tower: Tower, _ input: TowerInput) async throws -> [Float] {
        let runner = try await towers.runner(tower)
        let width = manifest.classifier?.labels.count ?? manifest.dimension
        do {
            let values = try await runner.run(input)
            guard values.count == width else {
                throw MobileCLIPError(
                    .bundle, "the \(tower.rawValue) tower gives \(values.count) numbers, and the manifest says \(width): export the bundle again")
            }
            return values
        } catch let error as MobileCLIPError {
            throw error
        } catch is CancellationError {
            throw MobileCLIPError(.cancelled, "cancelled while the \(tower.rawValue) tower ran")
        } catch {
            throw MobileCLIPError(.bundle, "the \(tower.rawValue) tower failed: \(error.localizedDescription)")
        }
    }

    /// Many pictures, one after the other; each is decoded when its turn comes. Ends with the code `cancelled` when the task
    /// is cancelled.
    /// - Parameter progress: called with the number done, after each.
    public func embed(
        images: some Sequence<some PictureSource>, isolation: isolated (any Actor)? = #isolation, progress: (Int) -> Void = { _ in }
    ) async throws -> [Embedding] {
        var found: [Embedding] = []
        for source in images {
            guard !Task.isCancelled else { throw MobileCLIPError(.cancelled, "cancelled after \(found.count) pictures") }
            found.append(try await embed(image: try source.picture() as Picture))
            progress(found.count)
        }
        return found
    }

    /// The same of texts.
    public func embed(
        texts: [String], isolation: isolated (any Actor)? = #isolation, progress: (Int) -> Void = { _ in }
    ) async throws -> [TextEmbedding] {
        var found: [TextEmbedding] = []
        for text in texts {
            guard !Task.isCancelled else { throw MobileCLIPError(.cancelled, "cancelled after \(found.count) texts") }
            found.append(try await embed(text: text))
            progress(found.count)
        }
        return found
    }

    /// Labels to classify pictures with, embedded once: keep them.
    /// - Parameters:
    ///   - names: two or more, with different prompts.
    ///   - template: with {} where the label goes; nil: the network's own.
    /// - Throws: `query` where they are others.
    public func labels(_ names: [String], template: String? = nil) async throws -> Labels {
        let template = template ?? manifest.template
        try Query.check(labels: names, template: template)
        let prompts = names.map { template.replacingOccurrences(of: "{}", with: $0) }
        try Query.check(labels: names, rows: prompts.compactMap { tokenizer?.ids($0).ids })
        var vectors: [[Float]] = []
        for prompt in prompts { vectors.append(try await embed(text: prompt).values) }
        return Labels(names: names, embeddingSpace: embeddingSpace, vectors: vectors, scale: manifest.logitScale, bias: manifest.logitBias)
    }

    /// What a text finds in an index: "nothing found" where the nearest picture does not fit.
    /// - Parameter threshold: the cosine that the nearest needs, in place of the bundle's; -1 shows everything.
    public func search(_ index: Index, _ text: String, top: Int = 10, threshold: Double? = nil) async throws -> Index.Answer {
        try Query.check(text: text)
        return try search(index, try await embed(text: text), top: top, threshold: threshold)
    }

    /// The same of an embedding. Pictures as queries are not judged.
    public func search(_ index: Index, _ query: some Embedded, top: Int = 10, threshold: Double? = nil) throws -> Index.Answer {
        try index.answer(query, relevance: relevance, top: top, threshold: threshold)
    }

    /// The cosine that a match of a text needs in a library of `size` pictures; nil where the bundle says none: it was
    /// exported without `--background`.
    public func needed(_ text: TextEmbedding, size: Int) throws -> Double? {
        try checkSpace(text, embeddingSpace, "the bundle")
        return try relevance?.needed(text, size: size)
    }

    /// What a classifier (`export --labels`) says of a picture, the most probable first.
    public func classify(image picture: Picture) async throws -> [Classification] {
        let (classes, shares) = try await shares(picture)
        return ranked(classes, shares)
    }

    /// The labels of a picture that are present, of a bundle of `export --examples`, the most probable first; empty where
    /// none of them is.
    public func tags(image picture: Picture) async throws -> [Classification] {
        guard let thresholds = manifest.classifier?.tags?.thresholds else {
            throw MobileCLIPError(
                .bundle, "the bundle has no labels that were learned from pictures: export it with --examples")
        }
        let (classes, shares) = try await shares(picture)
        return thresholds.present(shares).map { Classification(label: classes[$0], probability: shares[$0]) }
    }

    private func shares(_ picture: Picture) async throws -> ([String], [Double]) {
        guard let classes = manifest.classifier?.labels else {
            throw MobileCLIPError(.bundle, "the bundle is no classifier: ask labels(_:) for labels, and those to classify")
        }
        let shares = try await run(.image, .pixels(try prepare(picture)))
        guard shares.allSatisfy({ $0 >= 0 }) else {
            throw MobileCLIPError(.bundle, "the classifier gives what is not a probability: do not use it here")
        }
        return (classes, shares.map(Double.init))
    }
}
