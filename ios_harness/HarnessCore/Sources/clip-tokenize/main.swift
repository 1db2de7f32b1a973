import CLIPTokenizer
import Foundation

// Reads texts, each a JSON string on a line, and writes their ids, a line each: clip-tokenize BUNDLE/tokenizer
guard CommandLine.arguments.count == 2 else { fatalError("usage: clip-tokenize BUNDLE/tokenizer < texts.jsonl") }
let tokenizer = try CLIPTokenizer(folder: URL(fileURLWithPath: CommandLine.arguments[1]))
while let line = readLine() {
    let text = try JSONDecoder().decode(String.self, from: Data(line.utf8))
    print(tokenizer.encode(text).map(String.init).joined(separator: " "))
}
