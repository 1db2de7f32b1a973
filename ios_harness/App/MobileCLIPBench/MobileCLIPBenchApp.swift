import SwiftUI

@main
struct MobileCLIPBenchApp: App {
    @StateObject private var session = Session()

    var body: some Scene {
        WindowGroup {
            BenchView(session: session)
                .onAppear { session.start(arguments: Array(CommandLine.arguments.dropFirst())) }
        }
    }
}
