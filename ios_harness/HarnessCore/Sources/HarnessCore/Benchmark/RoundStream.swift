import Foundation

/// <run_id>.rounds.jsonl: a finished round is on the disk before the next one starts.
struct RoundStream {
    let file: URL
    let job: Job

    /// The rounds in the stream; the rest of a line that an interruption cut off is removed.
    /// - Throws: `HarnessError` if a whole line is not a round of this job, or a round occurs twice.
    func read() throws -> [RoundResult] {
        guard FileManager.default.fileExists(atPath: file.path) else { return [] }
        let data = try Data(contentsOf: file)
        let whole = data.lastIndex(of: UInt8(ascii: "\n")).map { data.distance(from: data.startIndex, to: $0) + 1 } ?? 0
        if whole < data.count {
            let handle = try FileHandle(forWritingTo: file)
            try handle.truncate(atOffset: UInt64(whole))
            try handle.close()
        }
        let turns = Set(job.order)
        var seen: Set<Turn> = []
        return try data.prefix(whole).split(separator: UInt8(ascii: "\n")).map { line in
            let round = try DocumentFiles.parse(Data(line), as: RoundResult.self, name: file.lastPathComponent)
            guard round.runId == job.runId, turns.contains(round.turn), seen.insert(round.turn).inserted else {
                throw HarnessError("\(file.lastPathComponent) holds a round that is not of run \(job.runId); delete it, run again")
            }
            return round
        }
    }

    func append(_ round: RoundResult) throws {
        if !FileManager.default.fileExists(atPath: file.path) {
            guard FileManager.default.createFile(atPath: file.path, contents: nil) else {
                throw HarnessError("\(file.lastPathComponent) cannot be written; free some storage")
            }
        }
        let handle = try FileHandle(forWritingTo: file)
        try handle.seekToEnd()
        try handle.write(contentsOf: try DocumentFiles.text(round) + Data("\n".utf8))
        try handle.synchronize()
        try handle.close()
    }

    /// The turns still to be run: none of a cell that failed or answered wrongly.
    func outstanding(_ finished: [RoundResult]) -> [Turn] {
        let done = Set(finished.map(\.turn))
        let stopped = Set(finished.filter { $0.status != .done }.map(\.cell))
        return job.order.filter { !done.contains($0) && !stopped.contains($0.cell) }
    }
}
