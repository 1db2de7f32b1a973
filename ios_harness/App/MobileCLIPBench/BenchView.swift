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
                if let record = session.record { RecordSection(record: record, file: session.recordFile) }
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

private struct RecordSection: View {
    let record: BenchmarkRecord
    let file: URL?

    var body: some View {
        Section("Self-reported") {
            ForEach(record.job.cells, id: \.id) { LabeledContent($0.id, value: record.outcome(of: $0)) }
            if let file { ShareLink("Share the result", item: file) }
            Text("`mobileclip-deploy report` compares all answers where the job was written.").foregroundStyle(.secondary)
        }
    }
}
