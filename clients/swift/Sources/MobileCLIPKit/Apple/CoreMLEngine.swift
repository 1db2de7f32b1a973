#if canImport(CoreML)
import CoreML
import Foundation

#if canImport(CoreVideo)
import CoreVideo
#endif

/// Core ML. What Xcode compiled (`.mlmodelc` next to the package, or instead of it) is loaded as it is; a package is
/// compiled once and kept in the caches folder, by its hash.
public struct CoreMLEngine: Engine {
    public let targets = ["coreml"]
    /// The GPU is not there while an app is in the background.
    public let computeUnits: [ComputeUnits] = [.all, .cpuAndNeuralEngine, .cpuAndGPU, .cpuOnly]

    public init() {}

    public func load(_ entry: Manifest.TowerEntry, at file: URL, on units: ComputeUnits) async throws -> any TowerRunner {
        do {
            return try CoreMLTower(entry, try await compiled(entry, file), units)
        } catch let error as MobileCLIPError {
            throw error
        } catch {
            throw MobileCLIPError(.bundle, "\(entry.file) cannot be loaded on \(units.rawValue): \(error.localizedDescription)")
        }
    }

    private func compiled(_ entry: Manifest.TowerEntry, _ file: URL) async throws -> URL {
        let manager = FileManager.default
        let beside = file.deletingPathExtension().appendingPathExtension("mlmodelc")
        if manager.fileExists(atPath: beside.path) { return beside }
        guard let caches = manager.urls(for: .cachesDirectory, in: .userDomainMask).first else {
            return try await MLModel.compileModel(at: file)
        }
        let folder = caches.appendingPathComponent("MobileCLIP")
        let kept = folder.appendingPathComponent("\(entry.sha256).mlmodelc")
        if manager.fileExists(atPath: kept.path) { return kept }
        try manager.createDirectory(at: folder, withIntermediateDirectories: true)
        let fresh = try await MLModel.compileModel(at: file)
        do {
            try manager.moveItem(at: fresh, to: kept)
        } catch where manager.fileExists(atPath: kept.path) {
            // Another task was first.
        }
        return kept
    }
}

/// A model is used by one thread at a time, which an actor sees to.
private actor CoreMLTower: TowerRunner {
    private let model: MLModel
    private let entry: Manifest.TowerEntry

    init(_ entry: Manifest.TowerEntry, _ compiled: URL, _ units: ComputeUnits) throws {
        let configuration = MLModelConfiguration()
        switch units {
        case .all: configuration.computeUnits = .all
        case .cpuAndNeuralEngine: configuration.computeUnits = .cpuAndNeuralEngine
        case .cpuAndGPU: configuration.computeUnits = .cpuAndGPU
        case .cpuOnly: configuration.computeUnits = .cpuOnly
        }
        if let function = entry.function {
            guard #available(iOS 18, macOS 15, *) else {
                throw MobileCLIPError(.bundle, "a package of both towers needs iOS 18 or macOS 15: export without --multifunction")
            }
            configuration.functionName = function
        }
        model = try MLModel(contentsOf: compiled, configuration: configuration)
        self.entry = entry
    }

    func run(_ input: TowerInput) throws -> [Float] {
        let value: MLFeatureValue
        switch input {
        case .pixels(let pixels) where entry.input.dtype == "uint8": value = MLFeatureValue(pixelBuffer: try image(pixels, entry.input.shape))
        case .pixels(let pixels): value = MLFeatureValue(multiArray: try array(pixels, .float32, entry.input.shape))
        case .ids(let ids): value = MLFeatureValue(multiArray: try array(ids, .int32, entry.input.shape))
        }
        let features = try MLDictionaryFeatureProvider(dictionary: [entry.input.name: value])
        let output = try model.prediction(from: features, options: MLPredictionOptions())
        guard let found = output.featureValue(for: entry.output.name)?.multiArrayValue else {
            throw MobileCLIPError(.bundle, "\(entry.file) gives no \(entry.output.name): export the bundle again")
        }
        let leading = [NSNumber](repeating: 0, count: found.shape.count - 1)
        return (0..<found.count).map { found[leading + [NSNumber(value: $0)]].floatValue }
    }
}

private func array<Element: BitwiseCopyable>(
    _ values: [Element], _ type: MLMultiArrayDataType, _ wanted: [Int]
) throws -> MLMultiArray {
    let shape = [1] + wanted.dropFirst()
    let array = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: type)
    let row = shape.last ?? 1
    array.withUnsafeMutableBytes { target, strides in
        values.withUnsafeBytes { source in
            let size = MemoryLayout<Element>.stride
            // Row by row: Core ML may pad rows.
            for index in 0..<values.count / row {
                var (rest, offset) = (index, 0)
                for axis in shape.indices.dropLast().reversed() {
                    offset += rest % shape[axis] * strides[axis]
                    rest /= shape[axis]
                }
                let bytes = UnsafeRawBufferPointer(rebasing: source[index * row * size..<(index + 1) * row * size])
                UnsafeMutableRawBufferPointer(rebasing: target[(offset * size)...]).copyMemory(from: bytes)
            }
        }
    }
    return array
}

/// Planes [3, S, S] in [0, 1] as 32BGRA, in whole steps of 1/255.
private func image(_ pixels: [Float], _ shape: [Int]) throws -> CVPixelBuffer {
    let (height, width) = (shape[2], shape[3])
    var made: CVPixelBuffer?
    let attributes: [String: Any] = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()]
    CVPixelBufferCreate(nil, width, height, kCVPixelFormatType_32BGRA, attributes as CFDictionary, &made)
    guard let buffer = made else { throw MobileCLIPError(.picture, "no pixel buffer of \(width) x \(height)") }
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    guard let base = CVPixelBufferGetBaseAddress(buffer) else { throw MobileCLIPError(.picture, "the pixel buffer has no memory") }
    let (rowBytes, plane) = (CVPixelBufferGetBytesPerRow(buffer), width * height)
    for y in 0..<height {
        let row = base.advanced(by: y * rowBytes).assumingMemoryBound(to: UInt8.self)
        for x in 0..<width {
            for channel in 0..<3 {
                row[4 * x + 2 - channel] = UInt8((pixels[channel * plane + y * width + x] * 255).rounded())
            }
            row[4 * x + 3] = 255
        }
    }
    return buffer
}
#endif
