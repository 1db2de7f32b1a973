import Foundation

/// HTML's character references, as Python's html.unescape and ftfy's careful version of it read them.
enum HTMLEntities {
    typealias Scalars = [Unicode.Scalar]

    /// html.unescape: with or without semicolon, the longest name that is known.
    static func unescape(_ text: Scalars) -> Scalars {
        replace(text) { start in
            if let (number, end) = numeric(text, start) { return (referred(number), end) }
            var end = start
            while end < text.count, end - start < 32, !"\t\n\u{0C} <&#;".unicodeScalars.contains(text[end]) { end += 1 }
            guard end > start else { return nil }
            if end < text.count, text[end] == ";" { end += 1 }
            let name = string(text[start..<end])
            if let known = table[name] { return (known, end) }
            var shorter = end - 1
            while shorter - start > 1 {
                if let known = table[string(text[start..<shorter])] { return (known, shorter) }
                shorter -= 1
            }
            return nil
        }
    }

    /// ftfy's: only what ends in a semicolon, and names in capitals where they are not ambiguous.
    static func unescapeUnambiguous(_ text: Scalars) -> Scalars {
        replace(text) { start in
            let hash = start < text.count && text[start] == "#" ? 1 : 0
            var end = start + hash
            while end < text.count, end - start - hash < 24, isLetterOrDigit(text[end]) { end += 1 }
            guard end > start + hash, end < text.count, text[end] == ";" else { return nil }
            end += 1
            if hash == 1 {
                guard let (number, whole) = numeric(text, start), whole == end else { return nil }
                let value = referred(number)
                return value == [";"] ? nil : (value, end)  // ftfy takes a semicolon for a sign that not all was read
            }
            let name = string(text[start..<end])
            if let known = table[name] { return (known, end) }
            guard name == name.uppercased(), let small = table[name.lowercased()] else { return nil }
            let whole: Scalars = ["&"] + text[start..<end]
            return unescape(whole) == whole ? (Array(string(small[...]).uppercased().unicodeScalars), end) : nil
        }
    }

    /// Every "&" whose reference `read` understands (from the index after it) is replaced by its text.
    private static func replace(_ text: Scalars, _ read: (Int) -> (Scalars, Int)?) -> Scalars {
        var result: Scalars = []
        var index = 0
        while index < text.count {
            if text[index] == "&", let (value, end) = read(index + 1) {
                result += value
                index = end
            } else {
                result.append(text[index])
                index += 1
            }
        }
        return result
    }

    /// `#123;` or `#x7B;`, the semicolon optional: the number (nil: larger than any) and where it ends.
    private static func numeric(_ text: Scalars, _ start: Int) -> (UInt32?, Int)? {
        guard start < text.count, text[start] == "#" else { return nil }
        let isHex = start + 1 < text.count && (text[start + 1] == "x" || text[start + 1] == "X")
        let first = start + (isHex ? 2 : 1)
        var end = first
        while end < text.count, text[end].isASCII, text[end].properties.numericType == .decimal || isHex && isHexLetter(text[end]) {
            end += 1
        }
        guard end > first else { return nil }
        let number = UInt32(string(text[first..<end]), radix: isHex ? 16 : 10)
        return (number, end < text.count && text[end] == ";" ? end + 1 : end)
    }

    private static func referred(_ number: UInt32?) -> Scalars {
        guard let number, let scalar = Unicode.Scalar(number), number != 0 else { return ["\u{FFFD}"] }
        switch number {
        case 0x0D: return ["\r"]
        case 0x80...0x9F: return [TextCleaning.windows1252[Int(number) - 0x80]]
        case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0xFDD0...0xFDEF: return []
        case let other where other & 0xFFFE == 0xFFFE: return []
        default: return [scalar]
        }
    }

    private static func isLetterOrDigit(_ scalar: Unicode.Scalar) -> Bool {
        scalar.isASCII && (scalar.properties.isAlphabetic || scalar.properties.numericType == .decimal)
    }

    private static func isHexLetter(_ scalar: Unicode.Scalar) -> Bool {
        ("a"..."f").contains(scalar) || ("A"..."F").contains(scalar)
    }

    private static func string(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
        String(String.UnicodeScalarView(scalars))
    }

    /// Name, with its semicolon and for some also without -> what it means.
    private static let table: [String: Scalars] = {
        var found: [String: Scalars] = [:]
        for line in htmlEntityTable.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
            let parts = line.split(separator: "=")
            let value = parts[1].split(separator: "+").map { Unicode.Scalar(UInt32($0, radix: 16)!)! }
            let name = parts[0].hasSuffix("!") ? String(parts[0].dropLast()) : String(parts[0])
            found[name + ";"] = value
            if name.count < parts[0].count { found[name] = value }
        }
        return found
    }()
}
