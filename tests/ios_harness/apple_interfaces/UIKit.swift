// The part of UIKit's interface that the app uses, so that its sources can be type-checked on Linux. It does nothing.
@_exported import Foundation

@MainActor public class UIDevice {
    public enum BatteryState: Sendable { case unknown, unplugged, charging, full }
    public static let current = UIDevice()
    public var isBatteryMonitoringEnabled = false
    public var batteryLevel: Float = -1
    public var batteryState = BatteryState.unknown
}

@MainActor public class UIApplication {
    public static let shared = UIApplication()
    public var isIdleTimerDisabled = false
}

extension URL {
    public static var documentsDirectory: URL { URL(fileURLWithPath: "/") }
}
