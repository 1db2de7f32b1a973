import Foundation

/// One example of what a model takes: raw little-endian elements, batch 1.
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
    /// The output of the last inference, copied. Not timed.
    func output() throws -> [Float]
    /// What a reader of the figures should know about how the model runs.
    var warnings: [String] { get }
}

/// Where a runtime means to run a model's operations, by unit and one by one.
public struct ModelPlan: Equatable, Sendable {
    public var placements: [Placement] = []
    public var operations: [PlannedOperation] = []
}

/// What runs models: Core ML, or a test's.
public protocol ModelRuntime {
    /// The job's word for it.
    var name: String { get }
    var version: String { get }
    /// Anything that a shipped app has behind it before it loads a model (compiling). Not timed.
    func install(_ cell: Cell, at file: URL) throws
    func load(_ cell: Cell) throws -> LoadedModel
    /// Where the runtime means to run the operations; empty where it cannot tell. Not timed.
    func plan(_ cell: Cell) throws -> ModelPlan
}
