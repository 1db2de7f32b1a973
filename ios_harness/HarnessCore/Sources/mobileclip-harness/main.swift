import Foundation
import HarnessCore

// The harness as a command: natively on a Mac, and on Linux for the tests. The app takes the same requests.

do {
    let command = try CommandLineRequest(Array(CommandLine.arguments.dropFirst()))
    let workspace = Workspace(documents: command.documents)
    let machine = Machine(standingInFor: command.standingInFor)
    try workspace.carryOut(command.request, machine: machine) { progress in
        let turn = progress.turn.map { "\($0.cell), round \($0.round)" } ?? "\(progress.state)"
        // Not `print`: it keeps lines back where nobody looks on.
        FileHandle.standardOutput.write(Data("\(progress.finishedTurns)/\(progress.turns) \(turn)\n".utf8))
    }
} catch {
    let text = (error as? HarnessError)?.description ?? error.localizedDescription
    FileHandle.standardError.write(Data("mobileclip-harness: \(text)\n".utf8))
    exit(2)
}
