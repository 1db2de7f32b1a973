import Foundation

/// The process's memory as the system counts it against the app (phys_footprint; on Linux the resident set), looked at
/// after loading, after the first inference and at the end of a round: the largest of these is reported.
struct Footprint {
    private(set) var largest: Int?

    mutating func look() {
        guard let now = Footprint.current() else { return }
        largest = max(largest ?? 0, now)
    }

    static func current() -> Int? {
        #if canImport(Darwin)
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<integer_t>.size)
        let status = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        return status == KERN_SUCCESS ? Int(info.phys_footprint) : nil
        #else
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return nil }
        let fields = text.split(separator: " ")
        return fields.count > 1 ? Int(fields[1]).map { $0 * Int(sysconf(Int32(_SC_PAGESIZE))) } : nil
        #endif
    }
}
