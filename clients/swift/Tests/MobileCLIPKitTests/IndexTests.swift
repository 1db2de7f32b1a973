import XCTest

@testable import MobileCLIPKit

final class IndexTests: XCTestCase {
    private struct Searches: Decodable {
        struct Found: Decodable {
            let id: String
            let row: Int
            let score: Double
        }
        struct Query: Decodable {
            let query: [Float]
            let found: [Found]
        }
        struct Case: Decodable {
            let store: String
            let index: Data
            let length, top: Int
            let queries: [Query]
        }
        struct Refused: Decodable {
            let what, code: String
            let index: Data
        }
        let embedding_space: String
        let cases: [Case]
        let refused: [Refused]
    }

    private struct Relevances: Decodable {
        let file: Data
        let manifest: [String: Double]
        let queries: [[Float]]
        let needed: [String: [Double]]
    }

    private func vectors() throws -> Searches { try Vectors.read("search", Searches.self) }

    private func file(_ content: Data) throws -> URL {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).mcdx")
        try content.write(to: url)
        addTeardownBlock { try? FileManager.default.removeItem(at: url) }
        return url
    }

    func testSearchGivesTheSameRowsInTheSameOrder() throws {
        let vectors = try vectors()
        XCTAssertEqual(vectors.cases.count, 5)
        for one in vectors.cases {
            let index = try Index(contentsOf: try file(one.index))
            XCTAssertEqual(index.count, one.length)
            XCTAssertEqual(index.store.rawValue, one.store)
            for query in one.queries {
                let asked = Embedding(values: query.query, embeddingSpace: vectors.embedding_space)
                let found = try index.search(asked, top: one.top)
                XCTAssertEqual(found.map(\.id), query.found.map(\.id), one.store)
                XCTAssertEqual(found.map(\.row), query.found.map(\.row), one.store)
                for (own, wanted) in zip(found, query.found) { XCTAssertEqual(own.score, wanted.score, accuracy: 1e-6) }
            }
        }
    }

    func testADamagedIndexIsRefused() throws {
        for one in try vectors().refused {
            let code = try XCTUnwrap(MobileCLIPError.Code(rawValue: one.code))
            assertRefused(code, one.what) { _ = try Index(one.index) }
        }
        assertRefused(.index) { _ = try Index(contentsOf: URL(fileURLWithPath: "/no/such.mcdx")) }
    }

    func testNoCutAndNoFlippedByteGetsThroughOrCrashes() throws {
        let whole = try vectors().cases[0].index
        for length in stride(from: 0, to: whole.count, by: 7) {
            XCTAssertThrowsError(try Index(whole.prefix(length))) { XCTAssertTrue($0 is MobileCLIPError) }
        }
        // Unchecked bodies are read all the same: what they say of ids and removed rows must not lead outside.
        for place in stride(from: 0, to: whole.count, by: 3) {
            var changed = whole
            changed[place] ^= 0xFF
            guard let index = try? Index(changed, checked: false) else { continue }
            _ = try index.search(values: [Float](repeating: 1, count: index.dimension), top: 60)
        }
    }

    func testAQueryThatIsNoneIsRefused() throws {
        let vectors = try vectors()
        let index = try Index(vectors.cases[0].index)
        var query = vectors.cases[0].queries[0].query
        assertRefused(.space) { _ = try index.search(Embedding(values: query, embeddingSpace: "another")) }
        assertRefused(.space) { _ = try index.search(values: query.dropLast()) }
        assertRefused(.query) { _ = try index.search(values: query, top: 0) }
        assertRefused(.query) { _ = try index.search(values: query.map { _ in 0 }) }
        query[3] = .nan
        assertRefused(.query) { _ = try index.search(values: query) }
        query[3] = .infinity
        assertRefused(.query) { _ = try index.search(values: query) }
    }

    private func relevance(_ vectors: Relevances, _ content: Data) throws -> Relevance {
        let fields = vectors.manifest.map { #""\#($0)": \#($1)"# } + [#""file": {"file": "relevance.safetensors"}"#]
        let numbers = try JSONDecoder().decode(
            Manifest.RelevanceNumbers.self, from: Data("{\(fields.joined(separator: ", "))}".utf8))
        return try Relevance(content, numbers, vectors.queries[0].count, named: "relevance.safetensors")
    }

    func testTheSameLabelsArePresent() throws {
        struct Tags: Decodable {
            struct Case: Decodable {
                let ratios: [Double]
                let share: Double
                let probabilities: [Float]
                let present: [Int]
            }
            struct Learned: Decodable {
                struct Case: Decodable {
                    let values: [Float]
                    let probabilities: [String: Double]
                    let present: [String]
                }
                let file: Data
                let embedding_space: String
                let labels: [String]
                let embeddings: [Case]
            }
            struct Refused: Decodable {
                let what: String
                let code: String
                let file: Data
            }
            let cases: [Case]
            let learned: Learned
            let refused: [Refused]
        }
        let all = try Vectors.read("tags", Tags.self)
        for one in all.cases {
            let rule = Manifest.Thresholds(ratios: one.ratios, share: one.share)
            XCTAssertEqual(rule.present(one.probabilities.map(Double.init)), one.present)
        }
        let (labels, space) = (try LearnedLabels(all.learned.file), all.learned.embedding_space)
        XCTAssertEqual([labels.names, [labels.embeddingSpace]], [all.learned.labels, [space]])
        for one in all.learned.embeddings {
            let embedding = Embedding(values: one.values, embeddingSpace: space)
            XCTAssertEqual(try labels.tags(embedding).map(\.label), one.present)
            for share in try labels.classify(embedding) {
                XCTAssertEqual(share.probability, try XCTUnwrap(one.probabilities[share.label]), accuracy: 1e-6)
            }
        }
        assertRefused(.space) { _ = try labels.tags(Embedding(values: all.learned.embeddings[0].values, embeddingSpace: "another")) }
        assertRefused(.space) { _ = try labels.tags(Embedding(values: [1], embeddingSpace: space)) }
        for one in all.refused { assertRefused(try XCTUnwrap(.init(rawValue: one.code)), one.what) { _ = try LearnedLabels(one.file) } }
    }

    func testAQueryNeedsTheSameCosine() throws {
        let vectors = try Vectors.read("relevance", Relevances.self)
        let relevance = try relevance(vectors, vectors.file)
        for (size, wanted) in vectors.needed {
            for (query, needed) in zip(vectors.queries, wanted) {
                let found = try relevance.needed(Embedding(values: query, embeddingSpace: ""), size: try XCTUnwrap(Int(size)))
                XCTAssertEqual(found, needed, accuracy: 1e-6)
            }
        }
        assertRefused(.bundle) { _ = try self.relevance(vectors, vectors.file.prefix(vectors.file.count / 2)) }
    }

    func testNothingIsFoundBelowWhatAQueryNeeds() throws {
        let (vectors, searches) = (try Vectors.read("relevance", Relevances.self), try vectors())
        let relevance = try relevance(vectors, vectors.file)
        func answers(_ store: Int) throws -> [Index.Answer] {
            let index = try Index(searches.cases[store].index)
            return try searches.cases[store].queries.map {
                let asked = TextEmbedding(values: $0.query, embeddingSpace: searches.embedding_space, tokens: 3, rest: "")
                return try index.answer(asked, relevance: relevance)
            }
        }
        let found = try answers(0)
        XCTAssertTrue(found.contains { $0.found } && found.contains { !$0.found })
        for answer in found {
            let (best, needed) = (try XCTUnwrap(answer.best), try XCTUnwrap(answer.needed))
            XCTAssertEqual(answer.found, best >= needed)
            XCTAssertEqual(answer.matches.isEmpty, !answer.found)
        }
        // Pictures as queries are not judged.
        let index = try Index(searches.cases[0].index)
        let picture = Embedding(values: searches.cases[0].queries[0].query, embeddingSpace: searches.embedding_space)
        XCTAssertNil(try index.answer(picture, relevance: relevance).needed)
        XCTAssertNil(try index.answer(picture, relevance: relevance).bridgedFrom)
        // Scores of signs alone are no cosines: nothing is judged.
        let signs = try XCTUnwrap(searches.cases.firstIndex { $0.store == "bits-only" })
        XCTAssertTrue(try answers(signs).allSatisfy { $0.found && $0.needed == nil })
    }

    func testWhatIsWrittenIsReadByTheSameRules() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).mcdx")
        addTeardownBlock { try? FileManager.default.removeItem(at: url) }
        func pictures(_ range: Range<Int>) -> [(id: String, embedding: Embedding)] {
            range.map { number in
                let values = Vectors.noise(40, UInt32(number)).map { Float($0) - 127.5 }
                return ("🐈 \(number).jpg", Embedding(values: values, embeddingSpace: "s"))
            }
        }
        do {
            let writer = try IndexWriter.create(at: url, embeddingSpace: "s", variant: "nano", dimension: 40, scale: 0.004)
            XCTAssertEqual(try Index(contentsOf: url).count, 0)
            try writer.add(pictures(0..<30))
            XCTAssertEqual(try Index(contentsOf: url).count, 0)
            try writer.commit()
            assertRefused(.index) { try writer.add(pictures(3..<4)) }
            assertRefused(.space) { try writer.add([("x", Embedding(values: [1], embeddingSpace: "t"))]) }
            assertRefused(.index) { try writer.remove(rows: [30]) }
            withExtendedLifetime(writer) { assertRefused(.index, "two writers") { _ = try IndexWriter(appendingTo: url) } }
        }
        // After the committed end: left by a writer that was killed.
        let half = try FileHandle(forWritingTo: url)
        try half.seekToEnd()
        try half.write(contentsOf: Data([1, 2, 3]))
        try half.close()
        let writer = try IndexWriter(appendingTo: url)
        try writer.remove(rows: [4])
        try writer.commit()
        try writer.add(pictures(30..<50) + pictures(4..<5))
        try writer.commit()
        let index = try Index(contentsOf: url)
        XCTAssertEqual(index.count, 50)
        for picture in pictures(0..<50) {
            let best = try index.search(picture.embedding, top: 1)[0]
            XCTAssertEqual(best.id, picture.id)
            XCTAssertGreaterThan(best.score, 0.99)
        }
        assertRefused(.index) { _ = try IndexWriter(appendingTo: try self.file(try vectors().cases[4].index)) }
        // A writer that is killed while it writes a slot damages that slot alone: the library is as it was before.
        let python = try file(try vectors().cases[0].index)
        let before = try Index(contentsOf: python).count
        for commit in 1...2 {
            let writer = try IndexWriter(appendingTo: python)
            try writer.remove(rows: [commit])
            try writer.commit()
            var now = try Data(contentsOf: python)
            XCTAssertEqual(try Index(now).count, before - commit)
            let slot = try now.withUnsafeBytes { try IndexHeader($0) }.slot
            now.replaceSubrange(slot..<slot + 32, with: Data(count: 32))
            XCTAssertEqual(try Index(now).count, before - commit + 1)
        }
    }

    private struct Hostile: Decodable {
        struct Damaged: Decodable {
            let what, code: String
            let index: Data?
            let file: Data?
        }
        struct Holds: Decodable {
            let what: String
            let index: Data
            let ids: [String]
            let rows: [Int]
            let stamps: [UInt64]
        }
        let indices, unsearchable, tensors: [Damaged]
        let holds: [Holds]
    }

    func testDamagedFilesAreRefused() throws {
        let vectors = try Vectors.read("hostile", Hostile.self)
        for one in vectors.indices {
            let content = try XCTUnwrap(one.index)
            assertRefused(try XCTUnwrap(MobileCLIPError.Code(rawValue: one.code)), one.what) { _ = try Index(content) }
        }
        for one in vectors.unsearchable {
            let index = try Index(try XCTUnwrap(one.index))
            assertRefused(.index, one.what) { _ = try index.search(values: [1, 0, 0, 0, 0, 0, 0, 0], top: 2) }
        }
        for one in vectors.tensors {
            let content = try XCTUnwrap(one.file)
            assertRefused(try XCTUnwrap(MobileCLIPError.Code(rawValue: one.code)), one.what) { _ = try SafeTensors(content, named: "x") }
        }
    }

    func testWhatAnIndexHolds() throws {
        for one in try Vectors.read("hostile", Hostile.self).holds {
            let index = try Index(one.index)
            XCTAssertEqual(index.ids, one.ids, one.what)
            XCTAssertEqual(index.rows, one.rows, one.what)
            XCTAssertEqual(try index.rows.map(index.stamp), one.stamps, one.what)
            XCTAssertEqual(one.ids.map(index.row(of:)), one.rows, one.what)
            XCTAssertFalse(index.contains("none"))
            for row in [-1, (one.rows.last ?? 0) + 1000] {
                assertRefused(.index) { _ = try index.id(row) }
                assertRefused(.index) { _ = try index.stamp(row) }
            }
        }
    }

    private struct Refusals: Decodable {
        struct Labels: Decodable {
            let what, template: String
            let names: [String]
        }
        struct Search: Decodable {
            struct Threshold: Decodable {
                let value: Double
                init(from decoder: any Decoder) throws {
                    let container = try decoder.singleValueContainer()
                    value = try (try? container.decode(Double.self)) ?? XCTUnwrap(Double(try container.decode(String.self)))
                }
            }
            let what, text: String
            let top: Int
            let threshold: Threshold?
        }
        let labels: [Labels]
        let search: [Search]
    }

    func testRequestsThatHaveNoAnswerAreRefused() throws {
        let refusals = try Vectors.read("refusals", Refusals.self)
        for one in refusals.labels {
            assertRefused(.query, one.what) { try Query.check(labels: one.names, template: one.template) }
        }
        let index = try Index(try Vectors.read("hostile", Hostile.self).holds[1].index)
        let query = TextEmbedding(values: [1, 0, 0, 0, 0, 0, 0, 0], embeddingSpace: "s", tokens: 3, rest: "")
        for one in refusals.search {
            assertRefused(.query, one.what) {
                try Query.check(text: one.text)
                _ = try index.answer(query, relevance: nil, top: one.top, threshold: one.threshold?.value)
            }
        }
        XCTAssertEqual(try index.search(query, top: .max).count, 2)
    }

    func testAWriterGathersRemovesByIDAndCompacts() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).mcdx")
        addTeardownBlock { try? FileManager.default.removeItem(at: url) }
        func picture(_ number: Int, _ id: String? = nil) -> (id: String, embedding: Embedding) {
            let values = Vectors.noise(40, UInt32(number)).map { Float($0) - 127.5 }
            return (id ?? "\(number)", Embedding(values: values, embeddingSpace: "s"))
        }
        func blocks() throws -> Int { try IndexFile(try Data(contentsOf: url), checked: true).blocks.count }
        let lock = url.deletingLastPathComponent().appendingPathComponent(".\(url.lastPathComponent).partial.lock").path
        do {
            let writer = try IndexWriter.create(at: url, embeddingSpace: "s", variant: "nano", dimension: 40, scale: 0.004)
            XCTAssertTrue(FileManager.default.fileExists(atPath: lock))
            assertRefused(.index, "a new index in the place of one that is written") {
                _ = try IndexWriter.create(at: url, embeddingSpace: "s", variant: "nano", dimension: 40, scale: 0.004)
            }
            for number in 0..<500 { try writer.add([picture(number)], stamps: [UInt64(number)]) }
            try writer.remove(ids: ["7", "none"])
            try writer.add([picture(7)], stamps: [.max])
            XCTAssertEqual([writer.contains("7"), writer.contains("none"), writer.ids.count == 500], [true, false, true])
            try writer.commit()
            let index = try Index(contentsOf: url)
            XCTAssertEqual(try blocks(), 1)
            XCTAssertEqual([index.count, index.row(of: "7")], [500, 500])
            XCTAssertEqual(try index.stamp(500), .max)
            for number in 0..<30 {  // each alone, as an app may do it
                try writer.remove(ids: ["\(number)"])
                try writer.add([picture(number, "\(number).jpg")])
                try writer.commit()
            }
            let many = try Index(contentsOf: url)
            XCTAssertEqual(try blocks(), 31)
            let before = try many.search(picture(12).embedding, top: 5)
            XCTAssertEqual(try writer.compact(), 31)
            XCTAssertEqual(try writer.compact(), 0)
            let compacted = try Index(contentsOf: url)
            XCTAssertEqual(try blocks(), 1)
            XCTAssertEqual(compacted.ids, many.ids)
            XCTAssertEqual(try compacted.rows.map(compacted.stamp), try many.rows.map(many.stamp))
            let after = try compacted.search(picture(12).embedding, top: 5)
            XCTAssertEqual(after.map(\.id), before.map(\.id))
            XCTAssertEqual(after.map(\.score), before.map(\.score))
            assertRefused(.query) { try writer.add([picture(1, "x")], stamps: []) }
            assertRefused(.index, "two writers") { _ = try IndexWriter(appendingTo: url) }
            try writer.add([picture(600, "new")])
            try writer.commit()
        }
        XCTAssertFalse(FileManager.default.fileExists(atPath: lock))
        XCTAssertTrue(try Index(contentsOf: url).contains("new"))
        assertRefused(.index) { _ = try IndexWriter(appendingTo: url.appendingPathExtension("none")) }
    }

    func testSumsOfProductsAreExact() {
        for width in [1, 3, 15, 16, 17, 40, 512, 65536] {
            let rows = Vectors.noise(3 * width, 1).map { Int8(bitPattern: $0) }
            let query = Vectors.noise(width, 2).map { Int8(bitPattern: $0) }
            var found = [Int32](repeating: 0, count: 3)
            integerProducts(rows, query, 3, &found)
            for row in 0..<3 {
                XCTAssertEqual(Int(found[row]), (0..<width).reduce(0) { $0 + Int(rows[row * width + $1]) * Int(query[$1]) })
            }
        }
        var most: Int32 = 0
        let extreme = [Int8](repeating: -127, count: 65536)
        integerProducts(extreme, extreme, 1, &most)
        XCTAssertEqual(Int(most), 65536 * 127 * 127)
    }

    func testHalvesBecomeFloats() {
        var found = [Float](repeating: 0, count: 9)
        widened([0x0001, 0x3C00, 0xBC00, 0x3555, 0x8000, 0x7BFF, 0x7C00, 0xFC00, 0x7E00], &found, 9)
        XCTAssertEqual(found, [5.9604645e-08, 1, -1, 0.33325195, -0.0, 65504, .infinity, -.infinity, .infinity])
    }
}
