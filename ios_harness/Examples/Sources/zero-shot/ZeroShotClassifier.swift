import CLIPTokenizer
import CoreML
import Foundation

#if canImport(CoreVideo)
import CoreVideo
#endif

/// Zero-shot classification with a bundle that `mobileclip-deploy export --target coreml` wrote: everything that is needed
/// stands in its manifest. To use it in an app, add the package HarnessCore (for CLIPTokenizer) and take this file.
final class ZeroShotClassifier {
    /// How a picture becomes the square that the model takes.
    let preprocess: Preprocess

    private let manifest: Manifest
    private let tokenizer: CLIPTokenizer
    private let imageModel: MLModel
    private let textModel: MLModel

    /// - Parameter isolation: whoever asks, and leave it out. Neither this class nor Core ML's models may go from one actor
    ///   to another, which Swift 6 mode checks: what is loaded for an actor stays there.
    static func load(
        bundle: URL, computeUnits: MLComputeUnits = .all, isolation: isolated (any Actor)? = #isolation
    ) async throws -> ZeroShotClassifier {
        let manifest = try JSONDecoder().decode(
            Manifest.self, from: Data(contentsOf: bundle.appendingPathComponent("manifest.json")))
        let (image, text) = (manifest.towers.image.file, manifest.towers.text.file)
        // An app that ships its models lets Xcode compile them instead.
        return try ZeroShotClassifier(
            manifest, CLIPTokenizer(folder: bundle.appendingPathComponent("tokenizer")), computeUnits,
            compiledImageModel: await MLModel.compileModel(at: bundle.appendingPathComponent(image)),
            compiledTextModel: await MLModel.compileModel(at: bundle.appendingPathComponent(text)))
    }

    private init(
        _ manifest: Manifest, _ tokenizer: CLIPTokenizer, _ computeUnits: MLComputeUnits, compiledImageModel: URL,
        compiledTextModel: URL
    ) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        imageModel = try MLModel(contentsOf: compiledImageModel, configuration: configuration)
        textModel = try MLModel(contentsOf: compiledTextModel, configuration: configuration)
        (self.manifest, self.tokenizer, preprocess) = (manifest, tokenizer, manifest.preprocess)
    }

    /// A label's embedding, of length 1: compute it once and keep it.
    func embedding(of label: String) throws -> [Float] {
        let prompt = manifest.template.replacingOccurrences(of: "{}", with: label)
        let ids = tokenizer.encode(prompt, contextLength: manifest.tokenizer.contextLength)
        let input = try MLMultiArray(shape: [1, NSNumber(value: ids.count)], dataType: .int32)
        for (index, id) in ids.enumerated() { input[[0, NSNumber(value: index)]] = NSNumber(value: id) }
        return try embed(MLFeatureValue(multiArray: input), textModel, manifest.towers.text)
    }

    /// An image's embedding, of length 1.
    /// - Parameter image: `preprocess.size` pixels a side, 32BGRA; mean and deviation are inside the model.
    func embedding(of image: CVPixelBuffer) throws -> [Float] {
        try embed(MLFeatureValue(pixelBuffer: image), imageModel, manifest.towers.image)
    }

    /// How probable each label is for an image, all together 1.
    func classify(_ image: CVPixelBuffer, among labels: [String]) throws -> [(label: String, probability: Float)] {
        let picture = try embedding(of: image)
        let logits = try labels.map { label in
            manifest.logitScale * zip(picture, try embedding(of: label)).reduce(0) { $0 + $1.0 * $1.1 }
        }
        let largest = logits.max() ?? 0
        let weights = logits.map { exp($0 - largest) }
        let total = weights.reduce(0, +)
        return zip(labels, weights).map { ($0, $1 / total) }.sorted { $0.probability > $1.probability }
    }

    private func embed(_ value: MLFeatureValue, _ model: MLModel, _ tower: Manifest.Tower) throws -> [Float] {
        let input = try MLDictionaryFeatureProvider(dictionary: [tower.input.name: value])
        let output = try model.prediction(from: input, options: MLPredictionOptions())
        guard let array = output.featureValue(for: tower.output.name)?.multiArrayValue else {
            throw CocoaError(.featureUnsupported)
        }
        let embedding = (0..<array.count).map { array[[0, NSNumber(value: $0)]].floatValue }
        let length = embedding.reduce(0) { $0 + $1 * $1 }.squareRoot()
        // Zeros and NaN have no direction: every probability would be NaN.
        guard length.isFinite, length > 0 else { throw NoEmbedding(tower: tower.file) }
        return embedding.map { $0 / length }
    }
}

/// A model answered with zeros, or with what is no number.
private struct NoEmbedding: LocalizedError {
    let tower: String
    var errorDescription: String? {
        "\(tower) gave no embedding: the model did not compute (on Linux a stand-in answers, by COREML_STAND_IN's script)"
    }
}

/// How the manifest says that a picture becomes a square of `size` pixels a side.
struct Preprocess: Decodable {
    enum Resize: String, Decodable {
        case shorterSide = "shorter_side"
        case squash
    }
    let size: Int
    let resize: Resize
    /// The share of the resized picture that the crop keeps; all of it where the manifest says nothing.
    let cropFraction: Double?

    enum CodingKeys: String, CodingKey {
        case size, resize
        case cropFraction = "crop_fraction"
    }

    /// Where a picture of so many pixels is drawn, so that the square from (0, 0) to (size, size) is its crop.
    func place(width: Int, height: Int) -> CGRect {
        let side = (Double(size) / (cropFraction ?? 1)).rounded(.down)
        let scale = side / Double(min(width, height))
        let (across, down) = resize == .squash ? (side, side) : (Double(width) * scale, Double(height) * scale)
        return CGRect(x: (Double(size) - across) / 2, y: (Double(size) - down) / 2, width: across, height: down)
    }
}

/// The part of manifest.json that an app needs.
private struct Manifest: Decodable {
    struct Feature: Decodable { let name: String }
    struct Tower: Decodable {
        let file: String
        let input: Feature
        let output: Feature
    }
    struct Towers: Decodable { let image, text: Tower }
    struct Tokenizer: Decodable {
        let contextLength: Int
        enum CodingKeys: String, CodingKey { case contextLength = "context_length" }
    }

    let towers: Towers
    let tokenizer: Tokenizer
    let preprocess: Preprocess
    let template: String
    let logitScale: Float

    enum CodingKeys: String, CodingKey {
        case towers, tokenizer, preprocess, template
        case logitScale = "logit_scale"
    }
}
