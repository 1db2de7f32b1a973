import HarnessCore
import SwiftUI

/// The one screen: what can be run, how far it is, what came out.
struct BenchView: View {
    @ObservedObject var session: Session

    var body: some View {
        NavigationStack {
            List {
                if Machine.isSimulated {
                    Section { Text("SIMULATED: this is no phone; its figures are nobody's latency.").bold() }
                }
                if let failure = session.failure {
                    Section { Label(failure, systemImage: "exclamationmark.triangle") }
                }
                if let progress = session.progress { ProgressSection(progress: progress, isRunning: session.isRunning) }
                if let result = session.result { ResultSection(result: result, file: session.resultFile) }
                jobs
            }
            .navigationTitle("MobileCLIP Bench")
            .refreshable { await session.look() }
        }
    }

    private var jobs: some View {
        Section("Jobs") {
            ForEach(session.offers) { offer in
                Button(offer.name) { session.run(offer) }.disabled(session.isRunning)
            }
            if session.offers.isEmpty {
                Text("In the Files app, copy job.json and the folders beside it into this app's folder, then pull down.")
                    .foregroundStyle(.secondary)
            }
        }
    }
}

private struct ProgressSection: View {
    let progress: RunProgress
    let isRunning: Bool

    var body: some View {
        Section("Run \(progress.runId)") {
            ProgressView(value: Double(progress.finishedTurns), total: Double(max(1, progress.turns))) {
                Text(progress.turn.map { "\($0.cell), round \($0.round + 1)" } ?? progress.state.rawValue)
            }
            if isRunning { Text("Keep the screen on and leave the device alone.").foregroundStyle(.secondary) }
        }
    }
}

private struct ResultSection: View {
    let result: BenchmarkResult
    let file: URL?

    var body: some View {
        Section("Result") {
            ForEach(result.cells, id: \.id) { cell in
                LabeledContent(cell.id, value: figure(cell))
            }
            if let file { ShareLink("Share the result", item: file) }
        }
    }

    /// The protocol's statistic, or why there is none.
    private func figure(_ cell: CellResult) -> String {
        guard let summary = cell.summary else { return cell.error ?? cell.status.rawValue }
        let nanoseconds: Double
        switch result.job.measurement.statistic {
        case .median: nanoseconds = summary.medianNs
        case .p90: nanoseconds = summary.p90Ns
        case .trimmedMean: nanoseconds = summary.trimmedMeanNs
        }
        return String(format: "%.2f ms", nanoseconds / 1e6)
    }
}
