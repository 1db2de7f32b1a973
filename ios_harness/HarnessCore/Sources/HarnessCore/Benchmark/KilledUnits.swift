import Foundation

/// killed.json: models that ended the app twice on a compute unit, at load or at the first inference. They are not tried
/// again on that unit under the same system: compiling takes minutes, and the system ends the app again (coremltools #2758).
struct KilledUnits {
    struct Entry: Codable, Equatable {
        var sha256: String
        var computeUnits: String
        var osVersion: String
        var step: RunProgress.Step
    }

    let file: URL

    /// Returns the cell's entry. Nil where nothing is known, also where the file cannot be read: the model is tried again.
    func entry(of cell: Cell, under osVersion: String) -> Entry? {
        read().first { $0.sha256 == cell.sha256 && $0.computeUnits == name(cell) && $0.osVersion == osVersion }
    }

    func add(_ cell: Cell, at step: RunProgress.Step, under osVersion: String) throws {
        let entry = Entry(sha256: cell.sha256, computeUnits: name(cell), osVersion: osVersion, step: step)
        try DocumentFiles.write(read().filter { $0 != entry } + [entry], to: file)
    }

    private func name(_ cell: Cell) -> String { cell.computeUnits?.rawValue ?? "any unit" }

    private func read() -> [Entry] { (try? DocumentFiles.read(file, as: [Entry].self)) ?? [] }
}

extension KilledUnits.Entry: CustomStringConvertible {
    var description: String {
        "the system ended the app while it \(step == .load ? "loaded" : "first ran") this model on \(computeUnits)"
    }
}
