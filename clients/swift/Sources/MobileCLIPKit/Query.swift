import Foundation

/// Queries that are refused, in every language and in Python (clients/vectors/refusals.json).
enum Query {
    static func check(text: String) throws {
        guard text.contains(where: { !$0.isWhitespace }) else { throw MobileCLIPError(.query, "the text is empty: give words") }
    }

    static func check(threshold: Double?) throws {
        guard threshold.map({ (-1...1).contains($0) }) ?? true else {
            throw MobileCLIPError(.query, "the threshold \(threshold ?? 0) is not a cosine: give a number from -1 to 1")
        }
    }

    static func check(labels: [String], template: String) throws {
        guard template.contains("{}") else {
            throw MobileCLIPError(.query, "the template has no {}, where the label goes: every prompt would be the same")
        }
        guard labels.count > 1 else { throw MobileCLIPError(.query, "\(labels.count) labels tell nothing apart: give two or more") }
        guard Set(labels).count == labels.count else {
            throw MobileCLIPError(.query, "a label is there twice: it would share its probability with itself")
        }
    }

    /// - Parameter rows: the ids of each label's prompt.
    static func check(labels: [String], rows: [[Int32]]) throws {
        var first: [[Int32]: String] = [:]
        for (label, row) in zip(labels, rows) {
            guard let other = first.updateValue(label, forKey: row) else { continue }
            throw MobileCLIPError(
                .query, "the labels \(other) and \(label) are the same prompt to the tokenizer: leave one out, or rephrase it")
        }
    }
}
