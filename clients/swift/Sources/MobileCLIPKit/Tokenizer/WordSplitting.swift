/// Cleaned, lower-cased text to words: open_clip's pattern
/// `'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`, without regard to case and without its special tokens:
/// a text that spells them does not end there.
enum WordSplitting {
    /// Each with the place where it begins.
    static func pieces(_ text: [Unicode.Scalar]) -> [(word: ArraySlice<Unicode.Scalar>, place: Int)] {
        var found: [(ArraySlice<Unicode.Scalar>, Int)] = []
        var index = 0
        while index < text.count {
            if text[index] == " " || Kind(text[index]) == .nothing {
                index += 1
            } else {
                let end = contraction(text, index) ?? run(text, index)
                found.append((text[index..<end], index))
                index = end
            }
        }
        return found
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
