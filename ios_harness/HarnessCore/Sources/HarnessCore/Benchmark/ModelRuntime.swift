import Foundation

/// One example of a model's input: raw little-endian elements, batch 1.
public struct Example: Equatable, Sendable {
    public var dtype: Dtype
    public var shape: [Int]
    public var bytes: Data
}

/// A model in memory. The loop is written against this, not against Core ML.
public protocol LoadedModel: AnyObject {
    /// Put an input into the memory that the next inferences read. Not timed.
    func prepare(_ example: Example) throws
    /// One inference: the only thing that is timed. Its output stays where the runtime wrote it.
    func infer() throws
    /// The times of as many inferences as a round has.
    func sample(_ sampling: Sampling) throws -> [Int]
    /// The output of the last inference, copied. Not timed.
    func output() throws -> [Float]
    /// What a reader of the figures should know about how the model runs.
    var warnings: [String] { get }
}

/// How the samples of a round are taken.
public struct Sampling: Sendable {
    public let count: Int
    /// Nanoseconds that they take at least.
    public let duration: UInt64
    /// Nanoseconds from the start of one to that of the next; 0: one right after the other.
    public let pace: UInt64

    init(_ rules: MeasurementProtocol) {
        count = rules.iterationsPerRound
        duration = UInt64(rules.secondsPerRound * 1e9)
        pace = UInt64((rules.paceMilliseconds ?? 0) * 1e6)
    }

    /// Whether another sample follows `done` of them.
    func goesOn(_ done: Int, since start: UInt64) -> Bool { done < count || Clock.wall() - start < duration }

    /// Nanoseconds to wait before the sample that follows `done` of them.
    func pause(before done: Int, since start: UInt64) -> UInt64 {
        let (due, now) = (start + UInt64(done) * pace, Clock.wall())
        return due > now ? due - now : 0
    }
}

extension LoadedModel {
    func sample(_ sampling: Sampling) throws -> [Int] {
        var samples: [Int] = []
        samples.reserveCapacity(max(sampling.count, 4096))
        let start = Clock.wall()
        while sampling.goesOn(samples.count, since: start) {
            let pause = sampling.pause(before: samples.count, since: start)
            if pause > 0 { Thread.sleep(forTimeInterval: Double(pause) / 1e9) }
            try pooled {
                let before = Clock.wall()
                try infer()
                samples.append(Int(Clock.wall() - before))
            }
        }
        return samples
    }
}

/// Where a runtime means to run a model's operations, by unit and one by one.
public struct ModelPlan: Equatable, Sendable {
    public var placements: [Placement] = []
    public var operations: [PlannedOperation] = []
}

/// What runs models: Core ML, Core AI, or a test's.
public protocol ModelRuntime {
    /// The job's word for it.
    var name: String { get }
    var version: String { get }
    /// Steps that an app has finished before it loads a model: compiling, specializing.
    /// - Parameter anew: repeat a step that was done before, if it is timed.
    /// - Returns: nanoseconds of specializing for this device; nil where that was done before, or is a part of loading.
    func install(_ cell: Cell, at file: URL, anew: Bool) throws -> Int?
    func load(_ cell: Cell, at file: URL) throws -> LoadedModel
    /// Where the runtime means to run the operations; empty if it cannot report it. Not timed.
    func plan(_ cell: Cell) throws -> ModelPlan
}

/// The runtimes that this build has on this system.
enum Runtimes {
    /// - Parameter compiledFolder: keeps what is compiled; can be deleted at any time.
    static func here(compiledFolder: URL) -> [ModelRuntime] {
        var found: [ModelRuntime] = [CoreMLRuntime(compiledFolder: compiledFolder)]
        #if canImport(CoreAI)
        if #available(iOS 27, macOS 27, *) { found.append(CoreAIRuntime()) }
        #endif
        return found
    }

    /// Why a build, or a system, has not all of them.
    static let conditions = "Core AI needs iOS 27 or macOS 27, a harness built by Xcode 27, and no simulator"
}
