import Foundation
import StandInScript

// Stand-in for Core AI on systems without it (Linux): the part of its public interface that this project uses, as Apple
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

    /// What models hold of their entry: one that anybody holds is not deleted.
    final class Entry: Sendable {}

    nonisolated(unsafe) private var entries: [String: Entry] = [:]
    private let lock = NSLock()

    /// Never specializes.
    public func model(for modelURL: URL, options: SpecializationOptions) throws -> AIModel? {
        entry(modelURL, options).map { AIModel(modelURL, options, $0) }
    }

    public func deleteEntry(for modelURL: URL, options: SpecializationOptions) throws {
        StandIn.note("delete \(options.units)")
        try lock.withLock {
            let name = key(modelURL, options)
            guard var held = entries.removeValue(forKey: name) else { return }
            guard isKnownUniquelyReferenced(&held) else {
                entries[name] = held
                throw StandInError(text: "a model refers to the entry of \(modelURL.lastPathComponent)")
            }
        }
    }

    func entry(_ url: URL, _ options: SpecializationOptions) -> Entry? { lock.withLock { entries[key(url, options)] } }

    func specialize(_ url: URL, _ options: SpecializationOptions) throws {
        guard entry(url, options) == nil else { return }
        let script = StandIn.script
        try script.failure(of: .specialize, url.lastPathComponent)
        guard FileManager.default.fileExists(atPath: url.path) else {
            throw StandInError(text: "no asset at \(url.lastPathComponent)")
        }
        StandIn.note("specialize \(options.units)")
        script.pause("specialize")
        lock.withLock { entries[key(url, options)] = Entry() }
    }

    private func key(_ url: URL, _ options: SpecializationOptions) -> String { "\(url.path)@\(options.units)" }
}

@available(iOS 27, macOS 27, *)
public struct AIModel: Sendable {
    private let url: URL
    private let options: SpecializationOptions
    private let entry: AIModelCache.Entry?

    /// Specializes what the cache does not hold.
    public init(contentsOf modelURL: URL, options: SpecializationOptions = .default) async throws {
        try AIModelCache.default.specialize(modelURL, options)
        self.init(modelURL, options, AIModelCache.default.entry(modelURL, options))
    }

    init(_ url: URL, _ options: SpecializationOptions, _ entry: AIModelCache.Entry?) {
        (self.url, self.options, self.entry) = (url, options, entry)
    }

    @discardableResult
    public static func specialize(
        contentsOf modelURL: URL, options: SpecializationOptions = .default, cache: AIModelCache = .default,
        cachePolicy: AIModelCache.Policy = .default
    ) async throws -> AIModel {
        try cache.specialize(modelURL, options)
        return AIModel(modelURL, options, cache.entry(modelURL, options))
    }

    public var functionNames: [String] { ["main"] + (StandIn.script.functions ?? []) }

    public func loadFunction(named functionName: String) throws -> InferenceFunction? {
        try StandIn.script.failure(of: .load, url.lastPathComponent)
        StandIn.note("load \(functionName) \(options.units)")
        return functionNames.contains(functionName) ? InferenceFunction(url.lastPathComponent, options.units) : nil
    }
}
