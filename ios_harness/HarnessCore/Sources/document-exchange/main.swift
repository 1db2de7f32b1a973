import Foundation
import HarnessCore

// For the tests: reads documents, one a line, and writes what it understood, one a line: "=" and the document, or "!" and
// why it was refused. The first argument says what they are: job or round.

let kind = CommandLine.arguments.dropFirst().first ?? ""
while let line = readLine() {
    let data = Data(line.utf8)
    do {
        let answer: Data
        switch kind {
        case "job": answer = try DocumentFiles.text(DocumentFiles.parse(data, as: Job.self, name: "line"))
        case "round": answer = try DocumentFiles.text(DocumentFiles.parse(data, as: RoundResult.self, name: "line"))
        default: fatalError("usage: document-exchange job|round")
        }
        print("=" + String(decoding: answer, as: UTF8.self))
    } catch {
        print("!\(error)")
    }
}
