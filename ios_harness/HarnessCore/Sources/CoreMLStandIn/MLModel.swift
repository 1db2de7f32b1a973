import Foundation
import StandInScript

// Stand-in for Core ML on systems without it (Linux), so that everything above it can be compiled, driven and tested. It
// has the part of the API that this project uses, and answers by `StandIn`'s script. It computes no network.

public enum MLComputeUnits: Int, Sendable { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }

open class MLModelConfiguration: NSObject {
    open var computeUnits = MLComputeUnits.all
    open var functionName: String?
    public override init() {}
}

open class MLPredictionOptions: NSObject {
    open var outputBackings: [String: Any] = [:]
    public override init() {}
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

open class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    private let values: [String: MLFeatureValue]

    public init(dictionary: [String: Any]) throws {
        values = dictionary.compactMapValues { $0 as? MLFeatureValue }
        guard values.count == dictionary.count else { throw StandInError(text: "a feature is no MLFeatureValue") }
    }

    open var featureNames: Set<String> { Set(values.keys) }
    open func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] }
}

open class MLFeatureValue: NSObject {
    public let multiArrayValue: MLMultiArray?
    public let imageBufferValue: CVPixelBuffer?

    public init(multiArray: MLMultiArray) { (multiArrayValue, imageBufferValue) = (multiArray, nil) }
    public init(pixelBuffer: CVPixelBuffer) { (multiArrayValue, imageBufferValue) = (nil, pixelBuffer) }
}

open class MLModel: NSObject {
    private let name: String
    private let units: MLComputeUnits

    /// Compiled models are folders with the package's name in them.
    public static func compileModel(at modelURL: URL) async throws -> URL {
        let name = modelURL.lastPathComponent
        try StandIn.script.failure(of: .compile, name)
        StandIn.script.pause("compile")
        guard FileManager.default.fileExists(atPath: modelURL.path) else { throw StandInError(text: "no package at \(name)") }
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).mlmodelc")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data(name.utf8).write(to: folder.appendingPathComponent("name"))
        return folder
    }

    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {
        name = try String(contentsOf: url.appendingPathComponent("name"), encoding: .utf8)
        units = configuration.computeUnits
        try StandIn.script.failure(of: .load, name)
        if let function = configuration.functionName, StandIn.script.functions?.contains(function) != true {
            throw StandInError(text: "no function \(function) in \(name)")
        }
    }

    public func prediction(from input: MLFeatureProvider, options: MLPredictionOptions) throws -> MLFeatureProvider {
        let script = StandIn.script
        try script.beforeInference(name, "\(units)", backed: !options.outputBackings.isEmpty)
        guard let value = input.featureNames.first.flatMap(input.featureValue) else { throw StandInError(text: "no input") }
        let bytes = value.imageBufferValue?.planes() ?? value.multiArrayValue?.packed() ?? Data()
        let answer = script.answer(to: bytes, name, "\(units)")
        let ignored = script.backingsIgnored?.contains(name) == true
        let backing = ignored ? nil : options.outputBackings[script.output] as? MLMultiArray
        let output = try backing ?? MLMultiArray(shape: [1, NSNumber(value: answer.count)], dataType: .float32)
        guard output.count == answer.count else { throw StandInError(text: "output backing of \(output.count) elements") }
        for (index, element) in answer.enumerated() { output[[0, NSNumber(value: index)]] = NSNumber(value: element) }
        return try MLDictionaryFeatureProvider(dictionary: [script.output: MLFeatureValue(multiArray: output)])
    }
}
