import Dispatch
import Foundation

/// Monotonic wall time and the process's CPU time, both in nanoseconds.
enum Clock {
    static func wall() -> UInt64 {
        DispatchTime.now().uptimeNanoseconds
    }

    /// Of all threads of this process.
    static func cpu() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// What `body` gives, and how long it took.
    static func timed<Value>(_ body: () throws -> Value) rethrows -> (Value, Int) {
        let start = wall()
        let value = try body()
        return (value, Int(wall() - start))
    }
}

/// Frees Core ML's temporary objects after every inference, as an app's run loop would.
@inline(__always)
func pooled<Value>(_ body: () throws -> Value) rethrows -> Value {
    #if canImport(ObjectiveC)
    return try autoreleasepool(invoking: body)
    #else
    return try body()
    #endif
}
