import Foundation

/// CLIP's tokenizer as open_clip has it: text to the ids that MobileCLIP's text tower takes.
///
/// Text is repaired and cleaned (`TextCleaning`), lower-cased, split into words, and every word into byte pairs. What is too
/// long is cut, and the end token stays last; the rest is padded with 0, which the towers need: they attend to padding.
/// Equal to open_clip's for everything but mojibake (text decoded by the wrong encoding), which it repairs and this does not.
public struct CLIPTokenizer: Sendable {
    public static let startOfText: Int32 = 49406
    public static let endOfText: Int32 = 49407

    public enum Failure: Error, LocalizedError {
        case damaged(String)

        public var errorDescription: String? {
            switch self {
            case .damaged(let file): return "\(file) is not what an exported bundle holds; export it again"
            }
        }
    }

    /// Ids of two neighbours, packed, -> the merge's rank and the id of what it makes.
    private let merges: [UInt64: (rank: Int, id: Int32)]
    /// Byte -> id, inside a word and at its end.
    private let inner: [Int32]
    private let last: [Int32]

    /// - Parameter folder: `tokenizer/` of an exported bundle, with vocab.json and merges.txt.
    public init(folder: URL) throws {
        let file = folder.appendingPathComponent("vocab.json")
        guard let vocabulary = try? JSONDecoder().decode([String: Int32].self, from: Data(contentsOf: file)) else {
            throw Failure.damaged("vocab.json")
        }
        func id(_ token: String) throws -> Int32 {
            guard let id = vocabulary[token] else { throw Failure.damaged("vocab.json") }
            return id
        }
        let symbols = CLIPTokenizer.byteSymbols
        inner = try symbols.map { try id($0) }
        last = try symbols.map { try id($0 + "</w>") }
        var merges: [UInt64: (rank: Int, id: Int32)] = [:]
        let lines = try String(contentsOf: folder.appendingPathComponent("merges.txt"), encoding: .utf8).split(separator: "\n")
        for (rank, line) in lines.dropFirst().enumerated() {
            let pair = line.split(separator: " ").map(String.init)
            guard pair.count == 2 else { throw Failure.damaged("merges.txt") }
            merges[CLIPTokenizer.packed(try id(pair[0]), try id(pair[1]))] = (rank, try id(pair[0] + pair[1]))
        }
        self.merges = merges
    }

    /// As many characters of a text as a context's tokens are given are read: cleaning and merging are quadratic in some
    /// texts, and of an honest one the tokens that are kept end long before (mobileclip_deploy/model/tokenizer.py).
    static let charactersPerToken = 64

    /// Start, the text, end, then 0: `contextLength` ids.
    public func encode(_ text: String, contextLength: Int = 77) -> [Int32] {
        let read = text.unicodeScalars.prefix(CLIPTokenizer.charactersPerToken * contextLength)
        var ids = [CLIPTokenizer.startOfText] + words(of: String(read)) + [CLIPTokenizer.endOfText]
        if ids.count > contextLength {
            ids = ids.prefix(contextLength - 1) + [CLIPTokenizer.endOfText]
        }
        return ids + [Int32](repeating: 0, count: contextLength - ids.count)
    }

    private func words(of text: String) -> [Int32] {
        WordSplitting.pieces(TextCleaning.lowercased(TextCleaning.clean(text))).flatMap { piece -> [Int32] in
            switch piece {
            case .startOfText: return [CLIPTokenizer.startOfText]
            case .endOfText: return [CLIPTokenizer.endOfText]
            case .word(let scalars): return merged(Array(String(String.UnicodeScalarView(scalars)).utf8))
            }
        }
    }

    /// One word's bytes, the best merge first until none is left.
    private func merged(_ bytes: [UInt8]) -> [Int32] {
        var ids = bytes.dropLast().map { inner[Int($0)] } + bytes.suffix(1).map { last[Int($0)] }
        while ids.count > 1 {
            let pairs = zip(ids, ids.dropFirst()).map { CLIPTokenizer.packed($0, $1) }
            guard let best = pairs.min(by: { rank($0) < rank($1) }), let merge = merges[best] else { break }
            var index = 0
            var next: [Int32] = []
            while index < ids.count {
                if index + 1 < ids.count, CLIPTokenizer.packed(ids[index], ids[index + 1]) == best {
                    next.append(merge.id)
                    index += 2
                } else {
                    next.append(ids[index])
                    index += 1
                }
            }
            ids = next
        }
        return ids
    }

    private func rank(_ pair: UInt64) -> Int { merges[pair]?.rank ?? Int.max }

    private static func packed(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    /// How the vocabulary writes each byte: printable ones as themselves, the others as characters from U+0100 on.
    private static let byteSymbols: [String] = {
        var next: UInt32 = 256
        return (0..<256).map { byte -> String in
            let isPrintable = (33...126).contains(byte) || (161...172).contains(byte) || byte >= 174
            if !isPrintable { next += 1 }
            return String(Unicode.Scalar(isPrintable ? UInt32(byte) : next - 1)!)
        }
    }()
}
