/// Cleaned, lower-cased text to words: open_clip's pattern
/// `<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`, without regard to case.
enum WordSplitting {
    enum Piece: Equatable {
        case startOfText
        case endOfText
        case word(ArraySlice<Unicode.Scalar>)
    }

    /// Each with the place where it begins.
    static func pieces(_ text: [Unicode.Scalar]) -> [(piece: Piece, place: Int)] {
        var found: [(Piece, Int)] = []
        var index = 0
        while index < text.count {
            if text[index] == " " || Kind(text[index]) == .nothing {
                index += 1
            } else if let (piece, length) = special(text, index) {
                found.append((piece, index))
                index += length
            } else {
                let end = contraction(text, index) ?? run(text, index)
                found.append((.word(text[index..<end]), index))
                index = end
            }
        }
        return found
    }

    private static func special(_ text: [Unicode.Scalar], _ index: Int) -> (Piece, Int)? {
        guard text[index] == "<" else { return nil }
        for (name, piece) in [("<start_of_text>", Piece.startOfText), ("<end_of_text>", .endOfText)] {
            let scalars = Array(name.unicodeScalars)
            if text[index...].starts(with: scalars) { return (piece, scalars.count) }
        }
        return nil
    }

    private static func contraction(_ text: [Unicode.Scalar], _ index: Int) -> Int? {
        guard text[index] == "'", index + 1 < text.count else { return nil }
        switch text[index + 1] {
        case "s", "ſ", "t", "m", "d": return index + 2  // a long s is an s without regard to case
        case "r", "v": return index + 2 < text.count && text[index + 2] == "e" ? index + 3 : nil
        case "l": return index + 2 < text.count && text[index + 2] == "l" ? index + 3 : nil
        default: return nil
        }
    }

    /// Letters together, digits one by one, everything else together.
    private static func run(_ text: [Unicode.Scalar], _ index: Int) -> Int {
        let kind = Kind(text[index])
        guard kind != .number else { return index + 1 }
        var end = index + 1
        while end < text.count, text[end] != " ", Kind(text[end]) == kind { end += 1 }
        return end
    }

    private enum Kind {
        case letter, number, other, nothing

        init(_ scalar: Unicode.Scalar) {
            // A mark whose capital is the letter iota: to the pattern, which does not regard case, neither a letter nor
            // anything else.
            if scalar == "\u{345}" {
                self = .nothing
                return
            }
            switch scalar.properties.generalCategory {
            case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
            case .decimalNumber, .letterNumber, .otherNumber: self = .number
            default: self = .other
            }
        }
    }
}
