import XCTest

@testable import MobileCLIPKit

#if os(Linux)
import MobileCLIPONNXRuntime
#endif

final class ManifestTests: XCTestCase {
    private struct Manifests: Decodable {
        struct Found: Decodable {
            let embedding_space, template: String
            let embed_dim, context_length, image_size: Int
            let logit_scale: Double
            let towers: [String]
        }
        struct Case: Decodable {
            let what, manifest: String
            let code: String?
            let found: Found?
        }
        let newest_schema: Int
        let cases: [Case]
    }

    func testManifestsAreReadOrRefused() throws {
        let vectors = try Vectors.read("manifests", Manifests.self)
        XCTAssertEqual(vectors.newest_schema, Manifest.newestSchema)
        for one in vectors.cases {
            if let code = one.code {
                assertRefused(try XCTUnwrap(MobileCLIPError.Code(rawValue: code)), one.what) {
                    let found = try Manifest.read(Data(one.manifest.utf8))
                    for tower in found.towers { try found.check(tower) }
                }
                continue
            }
            let (found, wanted) = (try Manifest.read(Data(one.manifest.utf8)), try XCTUnwrap(one.found))
            XCTAssertEqual(found.embeddingSpace, wanted.embedding_space)
            XCTAssertEqual(found.dimension, wanted.embed_dim)
            XCTAssertEqual(found.logitScale, wanted.logit_scale, accuracy: 1e-9)
            XCTAssertEqual(found.template, wanted.template)
            XCTAssertEqual(found.tokens?.contextLength ?? 0, wanted.context_length)
            XCTAssertEqual(found.preprocess.size, wanted.image_size)
            XCTAssertEqual(found.towers.map(\.rawValue), wanted.towers)
        }
    }

    func testAMessageIsASentenceThatSaysWhatToDo() throws {
        for one in try Vectors.read("manifests", Manifests.self).cases where one.code != nil {
            func read() throws {
                let found = try Manifest.read(Data(one.manifest.utf8))
                for tower in found.towers { try found.check(tower) }
            }
            XCTAssertThrowsError(try read()) {
                let message = $0.localizedDescription
                XCTAssertTrue(message.contains("export") || message.contains("update it") || message.contains("outside"), message)
            }
        }
    }
}

final class LockTests: XCTestCase {
    private struct Locks: Decodable {
        struct Case: Decodable {
            let what: String
            let code: String?
            let lock: JSON
        }
        let newest_schema: Int
        let files: [String: String]
        let cases: [Case]
    }

    private func folder(_ files: [String: String]) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
        for (name, text) in files {
            let file = folder.appendingPathComponent(name)
            try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        return folder
    }

    func testLocksAreReadOrRefused() throws {
        let vectors = try Vectors.read("locks", Locks.self)
        XCTAssertEqual(vectors.newest_schema, Lock.newestSchema)
        let bundle = try folder(vectors.files)
        let lock = bundle.appendingPathExtension("lock.json")
        addTeardownBlock { try? FileManager.default.removeItem(at: lock) }
        for one in vectors.cases {
            try JSONEncoder().encode(one.lock).write(to: lock)
            func opened() throws {
                let files = try BundleFiles(bundle, lock: lock)
                for (name, text) in vectors.files {
                    // An error thrown in XCTAssertEqual's own arguments is a failure, and is not thrown on.
                    let (content, tower) = (try files.read(name), try files.tower(name))
                    XCTAssertEqual(content, Data(text.utf8))
                    XCTAssertEqual(try Data(contentsOf: tower), Data(text.utf8))
                }
            }
            if let code = one.code {
                assertRefused(try XCTUnwrap(MobileCLIPError.Code(rawValue: code)), one.what) { try opened() }
            } else {
                XCTAssertNoThrow(try opened(), one.what)
            }
        }
        try Data(#"{"schema_version": 1, "schema_version": 1}"#.utf8).write(to: lock)
        assertRefused(.bundle) { _ = try BundleFiles(bundle, lock: lock) }
        assertRefused(.bundle) { _ = try BundleFiles(bundle, lock: lock.appendingPathComponent("none")) }
    }

    func testAPackageIsHeldToItsLockAndNothingIsAddedToIt() throws {
        let package = ["image.mlpackage/Manifest.json": "{}", "image.mlpackage/Data/weights": "w"]
        let all = package.merging(["manifest.json": "{}"]) { one, _ in one }
        let lock = try folder([:]).appendingPathExtension("lock.json")
        addTeardownBlock { try? FileManager.default.removeItem(at: lock) }
        let hashes = all.map { name, text in
            #""\#(name)": {"sha256": "\#(sha256(Data(text.utf8)))"}"#
        }
        let head = #"{"schema_version": 1, "repository": "someone/nano", "bundles": ["."], "commit": "\#(String(repeating: "0", count: 40))""#
        try Data("\(head), \"files\": {\(hashes.joined(separator: ", "))}}".utf8).write(to: lock)
        XCTAssertNoThrow(try BundleFiles(try folder(all), lock: lock).tower("image.mlpackage"))
        for change in [
            ["image.mlpackage/Data/weights": "x"], ["image.mlpackage/Data/more": ""], ["image.mlmodelc/model.mil": ""],
        ] {
            let files = try BundleFiles(try folder(all.merging(change) { _, new in new }), lock: lock)
            assertRefused(.bundle, "\(change)") { _ = try files.tower("image.mlpackage") }
        }
        var missing = all
        missing["image.mlpackage/Data/weights"] = nil
        let files = try BundleFiles(try folder(missing), lock: lock)
        assertRefused(.bundle, "a missing file") { _ = try files.tower("image.mlpackage") }
        assertRefused(.bundle, "a package that the lock lacks") { _ = try files.tower("text.mlpackage") }
    }

    func testHashesOfAllLengths() throws {
        // NIST's examples, and as many bytes as end before, at and after the length's place and a block.
        let known = [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
            ),
            (String(repeating: "a", count: 1_000_000), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
            (String(repeating: "b", count: 55), "eb2c86e932179f4ba13fe8715a26124b77d6bad290b9b4c1cc140cf633300c19"),
            (String(repeating: "b", count: 56), "a5fc6e203a4c2b657d0d153885932414b2ffc6a93f0f8bf8b3183315e5a7212c"),
            (String(repeating: "b", count: 63), "94e419fabac7f930810f9636354042f8c1426d2f834d4ab65c93dc1e69326b13"),
            (String(repeating: "b", count: 64), "a0fab1377f49a759b57f63318262ebe89fabfc990e8e93ceac2984561482b9d4"),
            (String(repeating: "b", count: 65), "74b128f30cf83de43ddf4aafc40c7b50a7443d3c73a89a7cfca17e15e43d51ab"),
            (String(repeating: "b", count: 119), "68297a9eb141ce16bbc0847da1c0c48e2858704feaa13993bde29f87a198a6e1"),
            (String(repeating: "b", count: 120), "392add47fbaa8197a874ebe770a947a26dd6f2becce5f64688cc4d18c9da93bd"),
            (String(repeating: "b", count: 128), "70ae1c5307f5250d5cb9e40742ba9613fcdf9b8d9eb6dd393330443b2d5effbd"),
        ]
        for (text, wanted) in known {
            let padded = Data([7]) + Data(text.utf8)
            for data in [Data(text.utf8), padded.dropFirst()] {  // a slice begins at another index
                XCTAssertEqual(sha256(data), wanted)
            }
        }
    }
}

/// Any JSON value.
private enum JSON: Codable {
    case null, number(Double), text(String), list([JSON]), object([String: JSON])

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if value.decodeNil() {
            self = .null
        } else if let text = try? value.decode(String.self) {
            self = .text(text)
        } else if let number = try? value.decode(Double.self) {
            self = .number(number)
        } else if let list = try? value.decode([JSON].self) {
            self = .list(list)
        } else {
            self = .object(try value.decode([String: JSON].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var value = encoder.singleValueContainer()
        switch self {
        case .null: try value.encodeNil()
        case .number(let number): try value.encode(number)
        case .text(let text): try value.encode(text)
        case .list(let list): try value.encode(list)
        case .object(let object): try value.encode(object)
        }
    }
}

#if os(Linux)
/// A real bundle, answered by ONNX Runtime.
final class BundleTests: XCTestCase {
    private func environment(_ name: String) throws -> String {
        guard let path = ProcessInfo.processInfo.environment[name] else {
            throw XCTSkip("\(name) is not set: pytest tests/clients does")
        }
        return path
    }

    private func bundle() throws -> URL { URL(fileURLWithPath: try environment("MOBILECLIP_BUNDLE")) }

    private let engine = ONNXRuntimeEngine(threads: 1)

    private func model(_ towers: [Tower]? = nil, engine: (any Engine)? = nil) async throws -> MobileCLIP {
        try await MobileCLIP.load(bundle: try bundle(), towers: towers, engine: engine ?? self.engine)
    }

    /// The bundle with some files changed.
    private func changed(_ name: String, _ change: (Data) throws -> Data) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.copyItem(at: try bundle(), to: folder)
        addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent(name)
        try change(try Data(contentsOf: file)).write(to: file)
        return folder
    }

    private func gradient(_ size: Int, _ layout: Picture.Layout = .rgb) -> Picture {
        var bytes: [UInt8] = []
        for place in 0..<size * size {
            let (across, down) = (UInt8(place % 251), UInt8(place / size % 256))
            bytes += [across, down, UInt8(place * 3 % 241)]
        }
        return Picture(bytes: bytes, width: size, height: size, layout: layout)
    }

    func testTheTokenizerGivesOpenClipsIds() throws {
        struct Texts: Decodable {
            struct One: Decodable {
                let text: String
                let ids: [Int32]
            }
            let context_length: Int
            let vectors: [One]
        }
        let folder = try bundle()
        func content(_ name: String) throws -> Data { try Data(contentsOf: folder.appendingPathComponent("tokenizer/\(name)")) }
        let settings = try XCTUnwrap(try Manifest.read(try Data(contentsOf: folder.appendingPathComponent("manifest.json"))).tokens)
        let (vocabulary, merges) = (try content("vocab.json"), try content("merges.txt"))
        let tokenizer = try Tokenizer(vocabulary: vocabulary, merges: merges, settings: settings)
        let vectors = try Vectors.read("tokenizer", Texts.self)
        XCTAssertEqual(vectors.vectors.count, 1000)
        for one in vectors.vectors {
            let padding = [Int32](repeating: 0, count: vectors.context_length - one.ids.count)
            XCTAssertEqual(tokenizer.ids(one.text).ids, one.ids + padding, one.text)
        }
        let cut = tokenizer.ids("one \(String(repeating: "dog ", count: 80))Cat.")
        XCTAssertEqual([cut.rest, "\(cut.tokens)", tokenizer.ids("a dog").rest], ["dog dog dog dog dog dog cat.", "85", ""])
        assertRefused(.bundle) {
            _ = try Tokenizer(vocabulary: vocabulary, merges: merges.prefix(merges.count / 2), settings: settings)
        }
        let windows = Data(String(decoding: merges, as: UTF8.self).replacingOccurrences(of: "\n", with: "\r\n").utf8)
        let same = try Tokenizer(vocabulary: vocabulary, merges: windows, settings: settings)
        XCTAssertEqual(same.ids("a photo of a dog").ids, tokenizer.ids("a photo of a dog").ids)
        assertRefused(.bundle) { _ = try Tokenizer(vocabulary: Data(#"{"a": 1}"#.utf8), merges: merges, settings: settings) }
        assertRefused(.bundle) { _ = try Tokenizer(vocabulary: vocabulary, merges: Data("photo</w> dog</w>\n".utf8), settings: settings) }
        assertRefused(.bundle) { _ = try Tokenizer(vocabulary: vocabulary, merges: Data(), settings: settings) }
    }

    func testABundleAnswersAsTheCheckpointDoes() async throws {
        let found = try await model().selfTest()
        XCTAssertEqual(found.towers.map(\.tower), [.image, .text])
        XCTAssertNil(found.sentence)
        for test in found.towers {
            XCTAssertTrue(test.passed)
            XCTAssertLessThan(test.relative, 1e-5)
            XCTAssertGreaterThanOrEqual(test.inputs, 16)
        }
    }

    func testEachFileThatIsOpenedIsHeldToItsLock() async throws {
        let folder = try bundle()
        let lock = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).lock.json")
        addTeardownBlock { try? FileManager.default.removeItem(at: lock) }
        let published = URL(fileURLWithPath: try environment("MOBILECLIP_LOCK"))
        var content = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(contentsOf: published)) as? [String: Any])
        var files = try XCTUnwrap(content["files"] as? [String: [String: Any]])
        func write() throws {
            content["files"] = files
            try JSONSerialization.data(withJSONObject: content).write(to: lock)
        }
        let model = try await MobileCLIP.load(bundle: folder, engine: engine, lock: published)
        let found = try await model.selfTest()
        XCTAssertTrue(found.passed)
        let towers = try [Tower.image, .text].map { try XCTUnwrap(model.manifest[$0]).file }
        for name in ["manifest.json", "tokenizer/vocab.json", "tokenizer/merges.txt"] + towers {
            let right = try XCTUnwrap(files.updateValue(["sha256": String(repeating: "0", count: 64)], forKey: name))
            try write()
            await assertRefused(.bundle, name) { _ = try await MobileCLIP.load(bundle: folder, engine: NoEngine(), lock: lock) }
            files[name] = right
        }
        files["golden.safetensors"] = nil
        try write()
        let without = try await MobileCLIP.load(bundle: folder, engine: engine, lock: lock)
        await assertRefused(.bundle, "golden.safetensors") { _ = try await without.selfTest() }
    }

    func testAVocabularyOfAnotherCheckpointIsTold() async throws {
        let folder = try changed("tokenizer/vocab.json") { content in
            var vocabulary = try JSONDecoder().decode([String: Int32].self, from: content)
            let (one, other) = ("photo</w>", "dog</w>")
            (vocabulary[one], vocabulary[other]) = (vocabulary[other], vocabulary[one])
            return try JSONEncoder().encode(vocabulary)
        }
        let model = try await MobileCLIP.load(bundle: folder, engine: engine)
        await assertRefused(.bundle) { _ = try await model.selfTest() }
    }

    func testALibraryWhoseBundleChangedIsRefused() async throws {
        let old = try await model()
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).mcdx")
        addTeardownBlock { try? FileManager.default.removeItem(at: url) }
        let picture = try await old.embed(image: gradient(90))
        let writer = try IndexWriter.create(at: url, manifest: old.manifest)
        try writer.add([("a", picture)])
        try writer.commit()
        let library = try Index(contentsOf: url)
        XCTAssertEqual(try old.search(library, picture).matches.map(\.id), ["a"])
        let space = old.embeddingSpace
        let folder = try changed("manifest.json") { content in
            Data(String(decoding: content, as: UTF8.self).replacingOccurrences(of: space, with: "nano-another").utf8)
        }
        let new = try await MobileCLIP.load(bundle: folder, engine: engine)
        await assertRefused(.space) { _ = try await new.search(library, "a dog") }
        let other = try await new.embed(image: gradient(90))
        assertRefused(.space) { try writer.add([("b", other)]) }
        let text = try await old.embed(text: "a dog")
        XCTAssertNil(try old.needed(text, size: 10))
        assertRefused(.space) { _ = try new.needed(text, size: 10) }
    }

    func testATruncatedGoldenFileAndANewerSchemaAreRefused() async throws {
        let cut = try changed("golden.safetensors") { $0.prefix($0.count / 2) }
        let model = try await MobileCLIP.load(bundle: cut, towers: [.image], engine: engine)
        await assertRefused(.bundle) { _ = try await model.selfTest() }
        let newer = try changed("manifest.json") { content in
            Data(String(decoding: content, as: UTF8.self).replacingOccurrences(of: #""schema_version": 2"#, with: #""schema_version": 3"#).utf8)
        }
        await assertRefused(.newer) { _ = try await MobileCLIP.load(bundle: newer, engine: NoEngine()) }
        await assertRefused(.bundle) { _ = try await MobileCLIP.load(bundle: newer.appendingPathComponent("none"), engine: NoEngine()) }
        let whole = try bundle()
        await assertRefused(.bundle) { _ = try await MobileCLIP.load(bundle: whole) }  // Linux has no engine of its own
    }

    func testATowerThatAnswersWronglyFallsBackToAnotherUnit() async throws {
        let wrong = WrongOn([.all, .cpuAndGPU], engine: engine) { $0.reversed() }
        let model = try await model(engine: wrong)
        let found = try await model.selfTest()
        XCTAssertTrue(found.passed)
        XCTAssertEqual(found.computeUnits, .cpuOnly)
        let sentence = try XCTUnwrap(found.sentence)
        XCTAssertTrue(sentence.contains("answers wrongly on all") && sentence.hasSuffix("cpuOnly is used in its place"), sentence)
        let units = await model.computeUnits
        XCTAssertEqual(units, .cpuOnly)
        let again = try await model.selfTest()
        XCTAssertNil(again.sentence)
    }

    func testATowerThatAnswersWronglyEverywhereIsTold() async throws {
        for wrong in [[Float](repeating: .nan, count: 128), [Float](repeating: 0, count: 128), []] {
            let everywhere = WrongOn(ComputeUnits.allCases, engine: engine) { _ in wrong }
            let found = try await model([.image], engine: everywhere).selfTest()
            XCTAssertFalse(found.passed)
            XCTAssertTrue(try XCTUnwrap(found.sentence).contains("no other unit answers rightly"))
        }
        // Blue for red, inside of a tower: the golden pictures show it.
        let bgr = try await model([.image], engine: BlueForRed(engine: engine)).selfTest(fallsBack: false)
        XCTAssertFalse(bgr.passed)
    }

    func testOfATokenizerThatIsNotKnownTheImageTowerIsLoadedAlone() async throws {
        let folder = try changed("manifest.json") { content in
            var told = try XCTUnwrap(try JSONSerialization.jsonObject(with: content) as? [String: Any])
            var tokens = try XCTUnwrap(told["tokenizer"] as? [String: Any])
            tokens["kind"] = "sentencepiece"
            tokens["sot"] = NSNull()
            told["tokenizer"] = tokens
            return try JSONSerialization.data(withJSONObject: told)
        }
        await assertRefused(.bundle) { _ = try await MobileCLIP.load(bundle: folder, engine: NoEngine()) }
        let image = try await MobileCLIP.load(bundle: folder, towers: [.image], engine: engine)
        let own = try await model([.image])
        let (found, wanted) = (try await image.embed(image: gradient(90)), try await own.embed(image: gradient(90)))
        XCTAssertEqual(found, wanted)
    }

    func testANetworkWithABiasJudgesEachLabelAlone() async throws {
        let folder = try changed("manifest.json") { content in
            Data(String(decoding: content, as: UTF8.self).replacingOccurrences(of: #""logit_scale""#, with: #""logit_bias": -7.5, "logit_scale""#).utf8)
        }
        let model = try await MobileCLIP.load(bundle: folder, engine: engine)
        let (picture, text) = (try await model.embed(image: gradient(90)), try await model.embed(text: "a dog"))
        let found = try (try await model.labels(["a dog", "a cat"], template: "{}")).classify(picture)
        let wanted = 1 / (1 + exp(7.5 - model.manifest.logitScale * dot(picture.values, text.values)))
        XCTAssertEqual(found.first { $0.label == "a dog" }?.probability, wanted)
    }

    func testWhatWasCutFromATextIsTold() async throws {
        let model = try await model([.text])
        let short = try await model.embed(text: "a dog")
        let long = try await model.embed(text: String(repeating: "dog ", count: 100))
        XCTAssertEqual([short.cut, long.cut], [false, true])
        XCTAssertEqual([short.tokens, long.tokens], [4, 102])
        await assertRefused(.bundle) { _ = try await model.embed(image: self.gradient(90)) }
    }

    func testLabelsShareOneProbability() async throws {
        let model = try await model()
        let labels = try await model.labels(["pizza", "a red car", "costs {} & more"])
        let found = try labels.classify(try await model.embed(image: gradient(90)))
        XCTAssertEqual(found.reduce(0) { $0 + $1.probability }, 1, accuracy: 1e-6)
        XCTAssertEqual(found.map(\.probability), found.map(\.probability).sorted(by: >))
        assertRefused(.space) { _ = try labels.classify(Embedding(values: [1], embeddingSpace: "another")) }
        await assertRefused(.bundle) { _ = try await model.classify(image: self.gradient(90)) }
        for one in try Vectors.read("refusals", Refusals.self).prompts {
            await assertRefused(.query, one.what) { _ = try await model.labels(one.names, template: one.template) }
        }
    }

    private struct Refusals: Decodable {
        struct Labels: Decodable {
            let what, template: String
            let names: [String]
        }
        let prompts: [Labels]
    }

    func testBlueForRedIsAnotherAnswerAndRowsOfACameraAreTheSame() async throws {
        let model = try await model([.image])
        let picture = gradient(90)
        var (bgra, exchanged): ([UInt8], [UInt8]) = ([], [])
        for place in stride(from: 0, to: picture.bytes.count, by: 3) {
            let turned = [picture.bytes[place + 2], picture.bytes[place + 1], picture.bytes[place]]
            exchanged += turned
            bgra += turned + [255]
        }
        let found = try await model.embed(images: [
            picture, Picture(bytes: bgra, width: 90, height: 90, layout: .bgra), Picture(bytes: exchanged, width: 90, height: 90),
        ])
        XCTAssertEqual(found[0], found[1])
        XCTAssertLessThan(dot(found[0].values, found[2].values), 0.999)
    }

    func testValuesOutsideOfZeroToOneAreRefused() async throws {
        let model = try await model([.image])
        let size = 3 * model.manifest.preprocess.size * model.manifest.preprocess.size
        var pixels = [Float](repeating: 0.5, count: size)
        let found = try await model.embed(pixels: pixels)
        XCTAssertEqual(found.values.count, model.manifest.dimension)
        await assertRefused(.range) { _ = try await model.embed(pixels: pixels.map { $0 * 255 }) }
        await assertRefused(.range) { _ = try await model.embed(pixels: pixels.dropLast()) }
        pixels[3] = .nan
        let damaged = pixels
        await assertRefused(.range) { _ = try await model.embed(pixels: damaged) }
    }

    func testManyAreEmbeddedWithProgressUntilTheTaskIsCancelled() async throws {
        let model = try await model([.image])
        let pictures = (1...4).map { Lazy(value: UInt8($0)) }
        let task = Task {
            var seen: [Int] = []
            do {
                _ = try await model.embed(images: pictures) { done in
                    seen.append(done)
                    if done == 2 { withUnsafeCurrentTask { $0?.cancel() } }
                }
            } catch {
                return (seen, error as? MobileCLIPError)
            }
            return (seen, nil)
        }
        let (seen, error) = await task.value
        XCTAssertEqual(seen, [1, 2])
        XCTAssertEqual(error, MobileCLIPError(.cancelled, "cancelled after 2 pictures"))
        let together = try await model.embed(images: pictures)
        let alone = try await model.embed(image: pictures[3])
        XCTAssertEqual(together[3], alone)
    }

    func testAMainActorsPictureIsEmbedded() async throws {
        let model = try await model([.image])
        let found = try await Self.onMain(model)
        XCTAssertEqual(found.values.count, 128)
    }

    @MainActor private static func onMain(_ model: MobileCLIP) async throws -> Embedding {
        final class NotSendable: PictureSource {
            func picture() -> Picture { Picture(bytes: [UInt8](repeating: 9, count: 300), width: 10, height: 10) }
        }
        return try await model.embed(image: NotSendable())
    }
}

/// Decoded when its turn comes.
private struct Lazy: PictureSource {
    let value: UInt8
    func picture() -> Picture { Picture(bytes: [UInt8](repeating: value, count: 3 * 70 * 70), width: 70, height: 70) }
}

/// Must not be called.
private struct NoEngine: Engine {
    let targets = ["onnx"]
    let computeUnits = [ComputeUnits.cpuOnly]
    func load(_ entry: Manifest.TowerEntry, at file: URL, on units: ComputeUnits) async throws -> any TowerRunner {
        XCTFail("a model was loaded")
        throw MobileCLIPError(.bundle, "")
    }
}

/// An engine that answers wrongly on some units, as an A12's Neural Engine does.
private struct WrongOn: Engine {
    let targets = ["onnx"]
    let computeUnits = [ComputeUnits.all, .cpuAndGPU, .cpuOnly]
    let wrong: [ComputeUnits]
    let engine: any Engine
    let answer: @Sendable ([Float]) -> [Float]

    init(_ wrong: [ComputeUnits], engine: any Engine, _ answer: @escaping @Sendable ([Float]) -> [Float]) {
        (self.wrong, self.engine, self.answer) = (wrong, engine, answer)
    }

    struct Runner: TowerRunner {
        let inner: any TowerRunner
        let answer: @Sendable ([Float]) -> [Float]
        func run(_ input: TowerInput) async throws -> [Float] { answer(try await inner.run(input)) }
    }

    func load(_ entry: Manifest.TowerEntry, at file: URL, on units: ComputeUnits) async throws -> any TowerRunner {
        let inner = try await engine.load(entry, at: file, on: .cpuOnly)
        return wrong.contains(units) ? Runner(inner: inner, answer: answer) : inner
    }
}

private struct BlueForRed: Engine {
    let targets = ["onnx"]
    let computeUnits = [ComputeUnits.cpuOnly]
    let engine: any Engine

    struct Runner: TowerRunner {
        let inner: any TowerRunner
        func run(_ input: TowerInput) async throws -> [Float] {
            guard case .pixels(let pixels) = input else { return try await inner.run(input) }
            let plane = pixels.count / 3
            return try await inner.run(.pixels(Array(pixels[(2 * plane)...] + pixels[plane..<2 * plane] + pixels[..<plane])))
        }
    }

    func load(_ entry: Manifest.TowerEntry, at file: URL, on units: ComputeUnits) async throws -> any TowerRunner {
        Runner(inner: try await engine.load(entry, at: file, on: units))
    }
}
#endif
