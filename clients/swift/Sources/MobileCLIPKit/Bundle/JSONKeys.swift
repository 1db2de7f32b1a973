import Foundation

/// The first key that a JSON text has twice in one object; nil where there is none. `JSONDecoder` takes one of the two,
/// other readers the other. Of a text that is not JSON nothing is said: the decoder refuses it.
func keyTwice(_ content: Data) -> String? {
    var objects: [Set<String>?] = []  // nil: an array
    var (at, word) = (content.startIndex, Data?.none)
    while at < content.endIndex {
        let byte = content[at]
        at += 1
        switch byte {
        case UInt8(ascii: "\""):
            let start = at
            while at < content.endIndex, content[at] != UInt8(ascii: "\"") {
                at += content[at] == UInt8(ascii: "\\") ? 2 : 1
            }
            guard at < content.endIndex else { return nil }
            word = content[start..<at]
            at += 1
        case UInt8(ascii: "{"): objects.append([])
        case UInt8(ascii: "["): objects.append(nil)
        case UInt8(ascii: "}"), UInt8(ascii: "]"): _ = objects.popLast()
        case UInt8(ascii: ":"):
            guard let word, !objects.isEmpty, objects[objects.count - 1] != nil else { return nil }
            let quoted = Data("[\"".utf8) + word + Data("\"]".utf8)  // escapes are another spelling of a key
            guard let key = try? JSONDecoder().decode([String].self, from: quoted)[0] else { return nil }
            guard objects[objects.count - 1]!.insert(key).inserted else { return key }
        default: break
        }
    }
    return nil
}
