// What Apple's Foundation has and the one of Linux lacks, of what the packages use. Apple's exports these modules too.
@_exported import Darwin
@_exported import Foundation
@_exported import ObjectiveC

extension ProcessInfo {
    public enum ThermalState: Int, @unchecked Sendable { case nominal, fair, serious, critical }
    public var thermalState: ThermalState { .nominal }
    public var isLowPowerModeEnabled: Bool { false }
}
