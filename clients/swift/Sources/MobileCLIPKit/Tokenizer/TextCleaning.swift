import Foundation

/// What open_clip does to a prompt before it splits it: ftfy's repairs, HTML unescaped, whitespace collapsed. Works on
/// Unicode scalars, because Swift's characters are clusters of them.
enum TextCleaning {
    typealias Scalars = [Unicode.Scalar]

    static func clean(_ text: String) -> Scalars {
        let repaired = repair(Array(text.unicodeScalars))
        return collapse(HTMLEntities.unescape(HTMLEntities.unescape(repaired)))
    }

    /// As Python's lower(): a capital sigma at the end of a word becomes a final one.
    static func lowercased(_ text: Scalars) -> Scalars {
        text.indices.flatMap { index -> Scalars in
            text[index] == "Σ" ? [isFinal(text, index) ? "ς" : "σ"] : Array(text[index].properties.lowercaseMapping.unicodeScalars)
        }
    }

    private static func isFinal(_ text: Scalars, _ index: Int) -> Bool {
        func isCased(_ rest: some Sequence<Unicode.Scalar>) -> Bool {
            rest.first { !$0.properties.isCaseIgnorable }?.properties.isCased ?? false
        }
        return isCased(text[..<index].reversed()) && !isCased(text[(index + 1)...])
    }

    /// As Python's " ".join(text.split()).
    private static func collapse(_ text: Scalars) -> Scalars {
        Scalars(text.split(whereSeparator: isSpace).joined(separator: [" "]))
    }

    private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: return true
        default: return false
        }
    }

    /// ftfy.fix_text without its repair of mojibake: line by line, each until nothing changes any more.
    private static func repair(_ text: Scalars) -> Scalars {
        var unescapes = true
        var lines: [Scalars] = [[]]
        for scalar in text {
            lines[lines.count - 1].append(scalar)
            if scalar == "\n" { lines.append([]) }
        }
        return lines.flatMap { line -> Scalars in
            if line.contains("<") { unescapes = false }  // looks like HTML: its entities are left alone from here on
            var current = line
            while true {
                let next = repairOnce(current, unescapes: unescapes)
                if next == current { return next }
                current = next
            }
        }
    }

    private static func repairOnce(_ line: Scalars, unescapes: Bool) -> Scalars {
        var text = unescapes ? HTMLEntities.unescapeUnambiguous(line) : line
        text = text.flatMap(replacement)
        text = straightenLineBreaks(text)
        text = withoutTerminalEscapes(text).filter { !isControl($0) }
        return Array(String(String.UnicodeScalarView(text)).precomposedStringWithCanonicalMapping.unicodeScalars)
    }

    /// C1 controls as Windows-1252, ligatures as letters, full and half width as the usual one, quotes straightened.
    private static func replacement(_ scalar: Unicode.Scalar) -> Scalars {
        switch scalar.value {
        case 0x80...0x9F: return straight(windows1252[Int(scalar.value) - 0x80])
        case 0x3000: return [" "]
        case 0xFF01...0xFFEF: return Array(String(scalar).precomposedStringWithCompatibilityMapping.unicodeScalars).flatMap(straight)
        default: return ligatures[scalar].map { $0.flatMap(straight) } ?? straight(scalar)
        }
    }

    private static func straight(_ scalar: Unicode.Scalar) -> Scalars {
        switch scalar.value {
        case 0x02BC, 0x2018...0x201B: return ["'"]
        case 0x201C...0x201F: return ["\""]
        default: return [scalar]
        }
    }

    private static func straightenLineBreaks(_ text: Scalars) -> Scalars {
        var result: Scalars = []
        for (index, scalar) in text.enumerated() {
            switch scalar.value {
            case 0x0D where index + 1 < text.count && text[index + 1] == "\n": continue
            case 0x0D, 0x85, 0x2028, 0x2029: result.append("\n")
            default: result.append(scalar)
            }
        }
        return result
    }

    /// Without ESC [ digits and semicolons, letter.
    private static func withoutTerminalEscapes(_ text: Scalars) -> Scalars {
        var result: Scalars = []
        var index = 0
        while index < text.count {
            var end = index + 2
            if text[index].value == 0x1B, index + 1 < text.count, text[index + 1] == "[" {
                while end < text.count, text[end] == ";" || text[end].properties.generalCategory == .decimalNumber { end += 1 }
                if end < text.count, text[end].isASCII, text[end].properties.isAlphabetic {
                    index = end + 1
                    continue
                }
            }
            result.append(text[index])
            index += 1
        }
        return result
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC: return true
        default: return false
        }
    }

    /// What bytes 0x80 to 0x9F mean; those that mean nothing stay.
    static let windows1252 = Array(
        "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8D}Ž\u{8F}\u{90}‘’“”•–—˜™š›œ\u{9D}žŸ".unicodeScalars)

    private static let ligatures: [Unicode.Scalar: Scalars] = [
        "Ĳ": ["I", "J"], "ĳ": ["i", "j"], "ŉ": ["\u{2BC}", "n"], "Ǳ": ["D", "Z"], "ǲ": ["D", "z"], "ǳ": ["d", "z"],
        "Ǆ": ["D", "Ž"], "ǅ": ["D", "ž"], "ǆ": ["d", "ž"], "Ǉ": ["L", "J"], "ǈ": ["L", "j"], "ǉ": ["l", "j"],
        "Ǌ": ["N", "J"], "ǋ": ["N", "j"], "ǌ": ["n", "j"], "ﬀ": ["f", "f"], "ﬁ": ["f", "i"], "ﬂ": ["f", "l"],
        "ﬃ": ["f", "f", "i"], "ﬄ": ["f", "f", "l"], "ﬅ": ["ſ", "t"], "ﬆ": ["s", "t"],
    ]
}
