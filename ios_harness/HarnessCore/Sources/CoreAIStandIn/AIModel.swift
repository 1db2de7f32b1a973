import Foundation
import StandInScript

// Stands in for Core AI where there is none (Linux): the part of its public interface that this project uses, as Apple
// documents it (developer.apple.com/documentation/coreai, iOS 27) and apple/coreai-models calls it. It computes no network.

@available(iOS 27, macOS 27, *)
public enum ComputeUnitKind: String, Hashable, Sendable {
    case cpu, gpu, neuralEngine

    public static var availableKinds: Set<ComputeUnitKind> {
        Set((StandIn.script.kinds ?? ["cpu", "gpu", "neuralEngine"]).compactMap { ComputeUnitKind(rawValue: $0) })
    }
}

@available(iOS 27, macOS 27, *)
public struct SpecializationOptions: Hashable, Sendable {
    public static let `default` = SpecializationOptions(nil, [.cpu, .gpu, .neuralEngine])
    public static let cpuOnly = SpecializationOptions(nil, [.cpu])

    public let preferredComputeUnitKind: ComputeUnitKind?
    public let allowedComputeUnitKinds: Set<ComputeUnitKind>
    public var expectFrequentReshapes = false

    public init(preferredComputeUnitKind: ComputeUnitKind) {
        self.init(preferredComputeUnitKind, [.cpu, .gpu, .neuralEngine])
    }

    private init(_ preferred: ComputeUnitKind?, _ allowed: Set<ComputeUnitKind>) {
        (preferredComputeUnitKind, allowedComputeUnitKinds) = (preferred, allowed)
    }

    /// The script's word.
    var units: String {
        preferredComputeUnitKind?.rawValue ?? (allowedComputeUnitKinds == [.cpu] ? "cpuOnly" : "default")
    }
}

@available(iOS 27, macOS 27, *)
public final class AIModelCache: Sendable {
    public struct Policy: Sendable {
        public static let `default` = Policy()
        public static let persistent = Policy()
    }

    public static let `default` = AIModelCache()

    nonisolated(unsafe) private var entries: Set<String> = []
    private let lock = NSLock()

    /// Never specializes.
    public func model(for modelURL: URL, options: SpecializationOptions) throws -> AIModel? {
        lock.withLock { entries.contains(key(modelURL, options)) } ? AIModel(modelURL, options) : nil
    }

    public func deleteEntry(for modelURL: URL, options: SpecializationOptions) throws {
        StandIn.note("delete \(options.units)")
        lock.withLock { _ = entries.remove(key(modelURL, options)) }
    }

    func specialize(_ url: URL, _ options: SpecializationOptions) throws {
        guard !lock.withLock({ entries.contains(key(url, options)) }) else { return }
        let script = StandIn.script
        try script.failure(of: .specialize, url.lastPathComponent)
        guard FileManager.default.fileExists(atPath: url.path) else {
            throw StandInError(text: "no asset at \(url.lastPathComponent)")
        }
        StandIn.note("specialize \(options.units)")
        script.pause("specialize")
        lock.withLock { _ = entries.insert(key(url, options)) }
    }

    private func key(_ url: URL, _ options: SpecializationOptions) -> String { "\(url.path)@\(options.units)" }
}

@available(iOS 27, macOS 27, *)
public struct AIModel: Sendable {
    private let url: URL
    private let options: SpecializationOptions

    /// Specializes what the cache does not hold.
    public init(contentsOf modelURL: URL, options: SpecializationOptions = .default) async throws {
        try AIModelCache.default.specialize(modelURL, options)
        self.init(modelURL, options)
    }

    init(_ url: URL, _ options: SpecializationOptions) { (self.url, self.options) = (url, options) }

    @discardableResult
    public static func specialize(
        contentsOf modelURL: URL, options: SpecializationOptions = .default, cache: AIModelCache = .default,
        cachePolicy: AIModelCache.Policy = .default
    ) async throws -> AIModel {
        try cache.specialize(modelURL, options)
        return AIModel(modelURL, options)
    }

    public var functionNames: [String] { ["main"] + (StandIn.script.functions ?? []) }

    public func loadFunction(named functionName: String) throws -> InferenceFunction? {
        try StandIn.script.failure(of: .load, url.lastPathComponent)
        StandIn.note("load \(functionName) \(options.units)")
        return functionNames.contains(functionName) ? InferenceFunction(url.lastPathComponent, options.units) : nil
    }
}
