import Foundation

#if canImport(UIKit)
private let systemName = "iOS"
#elseif os(macOS)
private let systemName = "macOS"
#else
private let systemName = "Linux"
#endif

/// Battery as the app reads it; HarnessCore itself knows no UIKit.
public struct Battery: Sendable {
    public var percent: Double?
    public var charging: Bool?

    public init(percent: Double?, charging: Bool?) {
        self.percent = percent
        self.charging = charging
    }
}

/// The device and this program on it.
public struct Machine: Sendable {
    public let device: Device
    public let harness: HarnessDescription
    private let battery: @Sendable () -> Battery
    private let thermalState: @Sendable () -> ThermalState?

    /// True for a stand-in of the device. It is decided when the harness is compiled: on Linux, where Core ML is a
    /// stand-in, and in the iOS simulator. No argument or file can change it.
    public static var isSimulated: Bool {
        #if os(Linux) || targetEnvironment(simulator)
        return true
        #else
        return false
        #endif
    }

    /// Of a runtime that comes with the system.
    static var systemRuntimeVersion: String {
        let system = ProcessInfo.processInfo.operatingSystemVersion
        return isSimulated ? "stand-in" : "of the system, \(system.majorVersion).\(system.minorVersion).\(system.patchVersion)"
    }

    /// What this build runs on; on a stand-in the device that it replaces.
    public static var kind: DeviceKind {
        #if os(iOS)
        return .ios
        #else
        return .mac
        #endif
    }

    /// - Parameter standingInFor: only for a simulated machine; a real one says what it is.
    public init(
        standingInFor kind: DeviceKind? = nil,
        battery: @escaping @Sendable () -> Battery = { Battery(percent: nil, charging: nil) },
        thermalState: @escaping @Sendable () -> ThermalState? = { Machine.systemThermalState() }
    ) {
        let info = ProcessInfo.processInfo
        let version = info.operatingSystemVersion
        device = Device(
            kind: Machine.isSimulated ? kind ?? Machine.kind : Machine.kind,
            simulated: Machine.isSimulated,
            name: Machine.isSimulated ? "stand-in" : Machine.named("hw.model") ?? systemName,
            model: Machine.model,
            architecture: Machine.architecture,
            os: systemName,
            osVersion: "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)",
            build: Machine.named("kern.osversion"),
            cores: info.processorCount,
            memoryBytes: Int(exactly: info.physicalMemory))
        harness = HarnessDescription(
            name: "HarnessCore", version: harnessVersion, build: Machine.build, qualityOfService: "userInitiated")
        self.battery = battery
        self.thermalState = thermalState
    }

    /// The system's own word; nil on Linux, which has none for a process.
    public static func systemThermalState() -> ThermalState? {
        #if os(Linux)
        return nil
        #else
        switch ProcessInfo.processInfo.thermalState {
        case .nominal: return .nominal
        case .fair: return .fair
        case .serious: return .serious
        case .critical: return .critical
        @unknown default: return nil
        }
        #endif
    }

    public func snapshot() -> Snapshot {
        var found = Snapshot(unixSeconds: (Date().timeIntervalSince1970 * 1000).rounded() / 1000)
        let now = battery()
        found.batteryPercent = now.percent
        found.charging = now.charging
        found.thermalState = thermalState()
        #if !os(Linux)
        found.lowPowerMode = ProcessInfo.processInfo.isLowPowerModeEnabled
        #endif
        #if !os(iOS)
        var load = [Double](repeating: 0, count: 1)
        if getloadavg(&load, 1) == 1 { found.loadAverage1Min = load[0] }
        #endif
        return found
    }

    private static var build: String {
        #if DEBUG
        return "debug"
        #else
        return "release"
        #endif
    }

    private static var architecture: String {
        #if arch(arm64)
        return "arm64"
        #elseif arch(x86_64)
        return "x86_64"
        #else
        return "unknown"
        #endif
    }

    /// The product type, such as iPhone13,4; of a Mac such as Mac14,7.
    private static var model: String {
        #if os(macOS)
        return named("hw.model") ?? "Mac"
        #else
        var system = utsname()
        uname(&system)
        return withUnsafeBytes(of: &system.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        #endif
    }

    /// A text of sysctl's.
    private static func named(_ name: String) -> String? {
        #if os(Linux)
        return nil
        #else
        var size = 0
        guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        #endif
    }
}

/// Of this package and the app; the result says it.
public let harnessVersion = "1"
