import Foundation

/// The process's memory as the system counts it against the app (phys_footprint; on Linux the resident set): the most that
/// a round took.
struct Footprint {
    private var seen: Int?
    private let peakBefore = Footprint.memory()?.peak

    /// The kernel's own peak where this round raised it; else the largest that was seen at a look, for the kernel keeps one
    /// peak for the whole process, and an earlier round, or the probe before the first, may have set it.
    var largest: Int? {
        if let peak = Footprint.memory()?.peak, let before = peakBefore, peak > before { return peak }
        return seen
    }

    mutating func look() {
        guard let now = Footprint.memory()?.now else { return }
        seen = max(seen ?? 0, now)
    }

    static func memory() -> (now: Int, peak: Int)? {
        #if canImport(Darwin)
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<integer_t>.size)
        let status = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                // `mach_task_self_` is a variable that Swift 6 refuses with SDKs before macOS 15.4, as Xcode 16.0 to 16.2 have.
                task_info(task_self_trap(), task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        return status == KERN_SUCCESS ? (Int(info.phys_footprint), Int(info.ledger_phys_footprint_peak)) : nil
        #else
        guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
        let kilobytes = ["VmRSS", "VmHWM"].compactMap { name in
            text.firstMatch(of: try! Regex("\(name):\\s+([0-9]+) kB", as: (Substring, Substring).self)).flatMap { Int($0.1) }
        }
        return kilobytes.count == 2 ? (1024 * kilobytes[0], 1024 * kilobytes[1]) : nil
        #endif
    }
}
