import Foundation
import MobileCLIPKit

#if canImport(MobileCLIPONNXRuntime)
import MobileCLIPONNXRuntime
#endif

// The package from a shell: a bundle's answers, and the commands that tests and benchmarks give every language's client.

let usage = """
    usage: mobileclip-client classify BUNDLE IMAGE LABEL[,LABEL...]
           mobileclip-client self-test BUNDLE
           mobileclip-client tokenize BUNDLE < texts, one JSON string per line
           mobileclip-client prepare < {"preprocess": ..., "layout": ..., "width": ..., "height": ..., "bytes": base64}, one per line
           mobileclip-client embed BUNDLE INDEX.mcdx IMAGE...
           mobileclip-client speed RUNS resize|[open:|write:]INDEX.mcdx

    """

func end(_ text: String, code: Int32) -> Never {
    FileHandle.standardError.write(Data(text.utf8))
    exit(code)
}

func load(_ path: String) async throws -> MobileCLIP {
    let bundle = URL(fileURLWithPath: path)
    #if canImport(MobileCLIPONNXRuntime)
    return try await MobileCLIP.load(bundle: bundle, engine: ONNXRuntimeEngine(threads: 1))
    #else
    return try await MobileCLIP.load(bundle: bundle)
    #endif
}

func json<Value: Decodable>(_ line: String, _ type: Value.Type) throws -> Value {
    try JSONDecoder().decode(type, from: Data(line.utf8))
}

struct Prepared: Decodable {
    let preprocess: Preprocess
    let layout: String
    let width: Int
    let height: Int
    let bytes: Data
}

/// CPU seconds of the median of some runs, after as many that do not count.
func speed(_ runs: Int, _ work: () throws -> Void) rethrows -> Double {
    var found: [Double] = []
    for run in 0..<2 * runs {
        let start = clock()
        try work()
        if run >= runs { found.append(Double(clock() - start) / Double(CLOCKS_PER_SEC)) }
    }
    return found.sorted()[runs / 2]
}

/// x becomes (1664525 x + 1013904223) mod 2^32, and gives its highest byte (clients/vectors).
func noise(_ count: Int, seed: UInt32) -> [UInt8] {
    var x = seed
    return (0..<count).map { _ in
        x = 1_664_525 &* x &+ 1_013_904_223
        return UInt8(x >> 24)
    }
}

func run(_ arguments: [String]) async throws {
    switch (arguments.first, arguments.count) {
    case ("classify", 4):
        let model = try await load(arguments[1])
        let labels = try await model.labels(arguments[3].components(separatedBy: ","))
        let picture = try await model.embed(image: PictureFile(URL(fileURLWithPath: arguments[2])))
        for found in try labels.classify(picture) { print("\(found.label) \(String(format: "%.4f", found.probability))") }
    case ("self-test", 2):
        let found = try await load(arguments[1]).selfTest()
        for test in found.towers { print("\(test.tower.rawValue) cosine \(test.cosine) relative \(test.relative)") }
        if let sentence = found.sentence { print(sentence) }
        if !found.passed { exit(1) }
    case ("tokenize", 2):
        let bundle = URL(fileURLWithPath: arguments[1])
        func content(_ name: String) throws -> Data { try Data(contentsOf: bundle.appendingPathComponent(name)) }
        guard let settings = try Manifest.read(try content("manifest.json")).tokens else { end("no tokenizer\n", code: 1) }
        let tokenizer = try Tokenizer(
            vocabulary: try content("tokenizer/vocab.json"), merges: try content("tokenizer/merges.txt"), settings: settings)
        while let line = readLine() {
            print(tokenizer.ids(try json(line, String.self)).ids.map(String.init).joined(separator: " "))
        }
    case ("prepare", 1):
        while let line = readLine() {
            let given = try json(line, Prepared.self)
            guard let layout = Picture.Layout(rawValue: given.layout) else { end("no layout \(given.layout)\n", code: 2) }
            let picture = Picture(bytes: Array(given.bytes), width: given.width, height: given.height, layout: layout)
            print(Data(try given.preprocess.bytes(try picture.rgb())).base64EncodedString())
        }
    case ("embed", 4...):
        let model = try await load(arguments[1])
        let library = URL(fileURLWithPath: arguments[2])
        let writer =
            FileManager.default.fileExists(atPath: library.path)
            ? try IndexWriter(appendingTo: library)
            : try IndexWriter.create(at: library, manifest: model.manifest)
        let files = arguments[3...].map { PictureFile(URL(fileURLWithPath: $0)) }
        let embedded = try await model.embed(images: files)
        try writer.add(zip(files, embedded).map { (id: $0.url.lastPathComponent, embedding: $1) })
        try writer.commit()
    case ("speed", 3):
        guard let runs = Int(arguments[1]), runs > 0 else { end(usage, code: 2) }
        if arguments[2] == "resize" {
            let picture = try Picture(bytes: noise(3 * 4000 * 3000, seed: 1), width: 4000, height: 3000).rgb()
            print(speed(runs) { _ = resized(picture, 341, 256, .bilinear) })
        } else if let colon = arguments[2].firstIndex(of: ":") {
            let url = URL(fileURLWithPath: String(arguments[2][colon...].dropFirst()))
            let writes = arguments[2].hasPrefix("write:")
            print(try speed(runs) { _ = try writes ? IndexWriter(appendingTo: url) as Any : Index(contentsOf: url) })
        } else {
            let index = try Index(contentsOf: URL(fileURLWithPath: arguments[2]))
            let query = noise(index.dimension, seed: 7).map { Float(Int8(bitPattern: $0)) }
            print(try speed(runs) { _ = try index.search(values: query, top: 20) })
        }
    default: end(usage, code: 2)
    }
}

do {
    try await run(Array(CommandLine.arguments.dropFirst()))
} catch {
    end("error: \(error.localizedDescription)\n", code: 1)
}
