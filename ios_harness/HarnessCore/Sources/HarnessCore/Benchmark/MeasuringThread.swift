import Foundation

/// Work off the main thread, at the quality of service that the result names.
public enum MeasuringThread {
    public static func run(_ work: @escaping @Sendable () throws -> Void) throws {
        let done = DispatchSemaphore(value: 0)
        let outcome = Outcome<Void>()
        let thread = Thread {
            outcome.result = Result(catching: work)
            done.signal()
        }
        thread.qualityOfService = .userInitiated
        thread.stackSize = 8 << 20
        thread.start()
        done.wait()
        try outcome.result!.get()
    }
}

/// Carries a value from one thread to another that waits for it.
final class Outcome<Value>: @unchecked Sendable {
    var result: Result<Value, Error>?
}
