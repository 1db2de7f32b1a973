import HarnessCore
import SwiftUI
import UIKit

/// What the screen shows, and the one run that may be in progress. The work itself is HarnessCore's, off the main thread.
@MainActor
final class Session: ObservableObject {
    /// A job that can be started by hand.
    struct Offer: Identifiable, Sendable {
        let folder: URL
        let name: String
        var id: URL { folder }
    }

    @Published private(set) var offers: [Offer] = []
    @Published private(set) var progress: RunProgress?
    @Published private(set) var failure: String?
    @Published private(set) var record: BenchmarkRecord?
    @Published private(set) var recordFile: URL?
    @Published private(set) var isRunning = false

    private let workspace = Workspace(documents: URL.documentsDirectory)
    private let machine: Machine
    private var started = false

    init() {
        UIDevice.current.isBatteryMonitoringEnabled = true
        machine = Machine(battery: readBattery)
    }

    /// Carries out the launch arguments, else offers the jobs in the app's folder.
    func start(arguments: [String]) {
        guard !started else { return }
        started = true
        look()
        do {
            guard let request = try Request.parse(arguments) else { return }
            carryOut(request, thenExit: arguments.contains("--exit"))
        } catch {
            failure = error.localizedDescription
        }
    }

    /// Look for jobs again: the Files app may have brought some.
    func look() {
        offers = workspace.jobs().map { folder in
            let job = try? DocumentFiles.read(folder.appendingPathComponent("job.json"), as: Job.self)
            return Offer(folder: folder, name: job.map { "\($0.runId): \($0.cells.count) cells" } ?? "not a job of this version")
        }
    }

    func run(_ offer: Offer) {
        begin { [workspace, machine] observe in
            try MeasuringThread.run { _ = try workspace.benchmark(offer.folder, machine: machine).run(observe: observe) }
            return try workspace.benchmark(offer.folder, machine: machine).recordFile
        }
    }

    private func carryOut(_ request: Request, thenExit: Bool) {
        begin(thenExit: thenExit) { [workspace, machine] observe in
            try workspace.carryOut(request, machine: machine, observe: observe)
            guard case .run(let id, onlyFirst: false) = request else { return nil }
            return workspace.record(id)
        }
    }

    private func begin(
        thenExit: Bool = false, _ work: @escaping @Sendable (@escaping @Sendable (RunProgress) -> Void) throws -> URL?
    ) {
        guard !isRunning else { return }
        (isRunning, failure, record, recordFile) = (true, nil, nil, nil)
        UIApplication.shared.isIdleTimerDisabled = true
        let show: @Sendable (RunProgress) -> Void = { progress in Task { @MainActor in self.progress = progress } }
        Thread.detachNewThread {
            let outcome = Result { try work(show) }
            Task { @MainActor in self.end(outcome, thenExit) }
        }
    }

    private func end(_ outcome: Result<URL?, Error>, _ thenExit: Bool) {
        isRunning = false
        UIApplication.shared.isIdleTimerDisabled = false
        switch outcome {
        case .success(let file):
            recordFile = file
            record = file.flatMap { try? DocumentFiles.read($0, as: BenchmarkRecord.self) }
        case .failure(let error):
            failure = error.localizedDescription
        }
        look()
        if thenExit { exit(failure == nil ? 0 : 2) }
    }
}

/// Requested by the measuring thread, between rounds; UIDevice belongs to the main one.
@Sendable private func readBattery() -> Battery {
    if Thread.isMainThread { return MainActor.assumeIsolated { battery(of: UIDevice.current) } }
    return DispatchQueue.main.sync { MainActor.assumeIsolated { battery(of: UIDevice.current) } }
}

@MainActor private func battery(of device: UIDevice) -> Battery {
    let percent = device.batteryLevel < 0 ? nil : Double((device.batteryLevel * 100).rounded())
    switch device.batteryState {
    case .charging, .full: return Battery(percent: percent, charging: true)
    case .unplugged: return Battery(percent: percent, charging: false)
    case .unknown: return Battery(percent: percent, charging: nil)
    @unknown default: return Battery(percent: percent, charging: nil)
    }
}
