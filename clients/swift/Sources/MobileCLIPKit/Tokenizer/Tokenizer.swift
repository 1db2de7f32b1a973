import Foundation

/// CLIP's tokenizer as open_clip has it: text to the ids that a text tower takes.
///
/// Text is repaired and cleaned (`TextCleaning`), lower-cased, split into words, and every word into byte pairs. What is too
/// long is cut, and the end token stays last; the rest is padded, which the towers need: they attend to padding. Equal to
/// open_clip's for everything but mojibake (text decoded by the wrong encoding), which it repairs and this does not.
public struct Tokenizer: Sendable {
    /// Ids of two neighbours, packed, -> the merge's rank and the id of the merged piece.
    private let merges: [UInt64: (rank: Int, id: Int32)]
    /// Byte -> id, inside a word and at its end.
    private let inner: [Int32]
    private let last: [Int32]
    private let settings: Manifest.Tokens
    private let start: Int32

    /// - Parameters:
    ///   - vocabulary: `tokenizer/vocab.json` of a bundle.
    ///   - merges: `tokenizer/merges.txt`, with any line breaks.
    ///   - settings: the manifest's.
    public init(vocabulary: Data, merges text: Data, settings: Manifest.Tokens) throws {
        let foreign = MobileCLIPError(
            .bundle, "vocab.json, merges.txt and the manifest do not belong together: export the bundle again")
        guard let vocabulary = try? JSONDecoder().decode([String: Int32].self, from: vocabulary) else {
            throw MobileCLIPError(.bundle, "tokenizer/vocab.json is no vocabulary: export the bundle again")
        }
        guard vocabulary.count == settings.vocabularySize, let start = settings.start else { throw foreign }
        func id(_ token: String) throws -> Int32 {
            guard let id = vocabulary[token] else { throw foreign }
            return id
        }
        let symbols = Tokenizer.byteSymbols
        inner = try symbols.map { try id($0) }
        last = try symbols.map { try id($0 + "</w>") }
        var merges: [UInt64: (rank: Int, id: Int32)] = [:]
        var rank = 0
        // By bytes: to Swift "\r\n" is one character, and a line may hold a mark that joins its neighbour.
        for line in text.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D }) {
            if line.starts(with: Array("#version".utf8)) { continue }
            let pair = line.split(separator: 0x20).map { String(decoding: $0, as: UTF8.self) }
            guard pair.count == 2 else { throw foreign }
            merges[Tokenizer.packed(try id(pair[0]), try id(pair[1]))] = (rank, try id(pair[0] + pair[1]))
            rank += 1
        }
        // Half of either would give other tokens without a word: all are bytes, inside and at the end, merges, start and end.
        guard rank == settings.vocabularySize - 2 * 256 - 2 else { throw foreign }
        (self.merges, self.settings, self.start) = (merges, settings, start)
    }

    /// As many characters of a text as a context's tokens are given are read: cleaning and merging are quadratic in some
    /// texts, and of an honest one the tokens that are kept end long before (mobileclip_deploy/network/model/tokenizer.py).
    static let charactersPerToken = 64

    /// Start, the text, the end, then padding: as many ids as the network takes. `tokens`: how many there were, start and
    /// end included; `rest`: what was left out of a text with more, cleaned.
    public func ids(_ text: String) -> (ids: [Int32], tokens: Int, rest: String) {
        let length = settings.contextLength
        let read = text.unicodeScalars.prefix(Tokenizer.charactersPerToken * length)
        let cleaned = TextCleaning.lowercased(TextCleaning.clean(String(read)))
        var (ids, cut) = ([start], Int?.none)
        for (word, place) in WordSplitting.pieces(cleaned) {
            ids += merged(Array(String(String.UnicodeScalarView(word)).utf8))
            if cut == nil, ids.count >= length { cut = place }
        }
        ids.append(settings.end)
        let tokens = ids.count
        var rest = ""
        if tokens > length, let cut {
            ids = ids.prefix(length - 1) + [settings.end]
            rest = String(String.UnicodeScalarView(cleaned[cut...])) + String(text.unicodeScalars[read.endIndex...])
        }
        return (ids + [Int32](repeating: settings.padding, count: length - ids.count), tokens, rest)
    }

    /// One word's bytes, the best merge first until none is left.
    private func merged(_ bytes: [UInt8]) -> [Int32] {
        var ids = bytes.dropLast().map { inner[Int($0)] } + bytes.suffix(1).map { last[Int($0)] }
        while ids.count > 1 {
            let pairs = zip(ids, ids.dropFirst()).map { Tokenizer.packed($0, $1) }
            guard let best = pairs.min(by: { rank($0) < rank($1) }), let merge = merges[best] else { break }
            var index = 0
            var next: [Int32] = []
            while index < ids.count {
                if index + 1 < ids.count, Tokenizer.packed(ids[index], ids[index + 1]) == best {
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
