import Foundation

// What the stand-ins for Core ML and Core AI have in common. They compute no network: they answer by a script.

public struct StandInError: Error, LocalizedError {
    let text: String
    public init(text: String) { self.text = text }
    public var errorDescription: String? { text }
}

/// What the stand-ins do: set by a test, or read from the JSON file that the variable COREML_STAND_IN names.
public struct StandIn: Codable, Sendable {
    /// What it answers to inputs: raw files of N inputs and N float32 outputs.
    public struct Answers: Codable, Sendable {
        public var inputs: String
        public var outputs: String
        public var count: Int

        public init(inputs: String, outputs: String, count: Int) {
            (self.inputs, self.outputs, self.count) = (inputs, outputs, count)
        }
    }

    public struct PlannedOperation: Codable, Sendable {
        public var operation: String
        /// Of its output.
        public var name: String?
        public var unit: String?
        public var cost: Double?

        public init(_ operation: String, unit: String?, cost: Double?) {
            (self.operation, self.unit, self.cost) = (operation, unit, cost)
        }
    }

    /// Of Core AI: what an asset's function takes by that name.
    public struct Port: Codable, Sendable {
        public var type: String
        public var shape: [Int]

        public init(_ type: String, _ shape: [Int]) { (self.type, self.shape) = (type, shape) }
    }

    public enum Step: String, Codable, Sendable { case compile, specialize, load, inference, backedInference }

    public var output = "final_emb_1"
    public var answers: [Answers] = []
    /// Packages, by name, that answer something else than `answers` say; "name@units" do so on these units alone.
    public var wrong: [String] = []
    /// Step -> packages, by name, that fail in it.
    public var failing: [String: [String]] = [:]
    /// Packages, by name, that write their output elsewhere than into the memory that they are given, and say nothing.
    public var backingsIgnored: [String]?
    /// Microseconds of an inference, by compute units ("cpuOnly", ...), of compiling ("compile") and specializing
    /// ("specialize").
    public var microseconds: [String: Int] = [:]
    public var plans: [String: [PlannedOperation]] = [:]
    /// Functions that packages hold besides the default one.
    public var functions: [String]?
    /// Inputs of Core AI's assets, by name.
    public var inputs: [String: Port]?
    /// The kinds of compute units that the device has, as Core AI calls them; nil: all.
    public var kinds: [String]?
    /// Kill this process (signal 9) at an inference of this number, counted from 1.
    public var killAtInference: Int?

    public init() {}

    public static var script: StandIn {
        get { lock.withLock { current } }
        set { lock.withLock { (current, table) = (newValue, newValue.load()) } }
    }

    nonisolated(unsafe) private static var current = fromEnvironment()
    nonisolated(unsafe) private static var table = current.load()
    nonisolated(unsafe) private static var inferences = 0
    nonisolated(unsafe) private static var calls: [String] = []
    private static let lock = NSLock()

    private static func fromEnvironment() -> StandIn {
        guard let path = ProcessInfo.processInfo.environment["COREML_STAND_IN"] else { return StandIn() }
        do {
            return try JSONDecoder().decode(StandIn.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            fatalError("COREML_STAND_IN names \(path), which is no script of the stand-in: \(error)")
        }
    }

    private func load() -> [Data: [Float]] {
        var found: [Data: [Float]] = [:]
        for pair in answers {
            guard let inputs = FileManager.default.contents(atPath: pair.inputs),
                let outputs = FileManager.default.contents(atPath: pair.outputs), pair.count > 0
            else { fatalError("the stand-in's answers are missing: \(pair)") }
            let (width, size) = (inputs.count / pair.count, outputs.count / pair.count)
            for index in 0..<pair.count {
                let answer = outputs.subdata(in: index * size..<(index + 1) * size)
                found[inputs.subdata(in: index * width..<(index + 1) * width)] = answer.withUnsafeBytes {
                    Array($0.bindMemory(to: Float.self))
                }
            }
        }
        return found
    }

    /// Records a request.
    public static func note(_ call: String) { lock.withLock { calls.append(call) } }

    /// Requests since the last look.
    public static func takeCalls() -> [String] {
        lock.withLock {
            defer { calls = [] }
            return calls
        }
    }

    public func failure(of step: Step, _ name: String) throws {
        if failing[step.rawValue, default: []].contains(name) {
            throw StandInError(text: "the stand-in was told to fail at \(step.rawValue) of \(name)")
        }
    }

    public func beforeInference(_ name: String, _ units: String, backed: Bool) throws {
        let number = StandIn.lock.withLock { () -> Int in
            StandIn.inferences += 1
            return StandIn.inferences
        }
        if number == killAtInference { kill(getpid(), SIGKILL) }
        try failure(of: .inference, name)
        if backed { try failure(of: .backedInference, name) }
        pause(units)
    }

    public func pause(_ what: String) {
        if let time = microseconds[what] { usleep(UInt32(time)) }
    }

    /// The answer that the script holds for an input, row-major without padding; zeros for one that it does not know.
    public func answer(to bytes: Data, _ name: String, _ units: String) -> [Float] {
        let known = StandIn.lock.withLock { StandIn.table }
        let answer = known[bytes] ?? [Float](repeating: 0, count: known.first?.value.count ?? 1)
        return wrong.contains(name) || wrong.contains("\(name)@\(units)") ? answer.reversed() : answer
    }
}
