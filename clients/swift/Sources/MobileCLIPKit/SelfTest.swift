import Foundation

/// A tower's golden answers on this device, the worst of all inputs.
public struct TowerTest: Sendable {
    public let tower: Tower
    public let inputs: Int
    /// NaN where the tower gave none.
    public let cosine: Double
    public let relative: Double
    public let gate: Gate
    /// Why there is no answer; nil where there is one.
    public let failure: String?
    public var passed: Bool { failure == nil && gate.holds(cosine, relative) }
}

public struct SelfTest: Sendable {
    public let towers: [TowerTest]
    /// Where the towers run from here on.
    public let computeUnits: ComputeUnits
    /// Message for the user: nil if the requested unit works.
    public let sentence: String?
    public var passed: Bool { towers.allSatisfy(\.passed) }
}

extension MobileCLIP {
    /// The bundle's golden inputs through each loaded tower, against the checkpoint's answers. Where a tower does not pass,
    /// the other compute units are tried: the Neural Engine of an A12 answers every query alike. The first on which all
    /// pass answers from here on, and `sentence` says so. Run it once for each version of the system, and keep the unit.
    public func selfTest(fallsBack: Bool = true) async throws -> SelfTest {
        let golden = try SafeTensors(try files.read("golden.safetensors"), named: "golden.safetensors")
        try checkTokens(golden)
        let asked = await towers.units
        let first = try await tested(await towers.loaded(), golden)
        if first.allSatisfy(\.passed) { return SelfTest(towers: first, computeUnits: asked, sentence: nil) }
        let wrong = first.filter { !$0.passed }.map { test in
            let how = test.failure ?? "cosine \(String(format: "%.3f", test.cosine))"
            return "the \(test.tower.rawValue) tower answers wrongly on \(asked.rawValue) (\(how))"
        }.joined(separator: " and ")
        for units in fallsBack ? await towers.others : [] {
            // A unit that the device does not have fails to load: the next is tried.
            guard let runners = try? await towers.loaded(on: units) else { continue }
            let again = try await tested(runners, golden)
            if again.allSatisfy(\.passed) {
                await towers.use(runners, on: units)
                return SelfTest(towers: again, computeUnits: units, sentence: "\(wrong): \(units.rawValue) is used in its place")
            }
        }
        return SelfTest(towers: first, computeUnits: asked, sentence: "\(wrong), and no other unit answers rightly: do not use it here")
    }

    /// A vocabulary of another checkpoint has the same form: the golden texts show it.
    private func checkTokens(_ golden: SafeTensors) throws {
        guard let tokenizer, let prompts = golden.prompts, let ids = golden["ids"]?.int32, let shape = golden["ids"]?.shape,
            shape.count == 2, shape[0] == prompts.count
        else { return }
        for (number, prompt) in prompts.enumerated()
        where tokenizer.ids(prompt).ids != Array(ids[number * shape[1]..<(number + 1) * shape[1]]) {
            throw MobileCLIPError(.bundle, "tokenizer/ is not the checkpoint's: it gives other ids of the golden texts; export the bundle again")
        }
    }

    private func tested(_ runners: [Tower: any TowerRunner], _ golden: SafeTensors) async throws -> [TowerTest] {
        var found: [TowerTest] = []
        for tower in Tower.allCases {
            guard let runner = runners[tower], let entry = manifest[tower] else { continue }
            found.append(try await tested(tower, runner, golden, Gate.byPrecision[entry.precision] ?? Gate(.cosine, 0.999)))
        }
        return found
    }

    private func tested(_ tower: Tower, _ runner: any TowerRunner, _ golden: SafeTensors, _ gate: Gate) async throws -> TowerTest {
        let (inputs, wanted) = try goldens(tower, golden)
        var (cosine, relative, failure) = (1.0, 0.0, String?.none)
        for (input, truth) in zip(inputs, wanted) where failure == nil {
            do {
                let answer = try await runner.run(input)
                guard answer.count == truth.count else {
                    throw MobileCLIPError(.bundle, "\(answer.count) numbers in place of \(truth.count)")
                }
                let length = dot(truth, truth).squareRoot()
                let away = zip(answer, truth).map { $0 - $1 }
                // NaN where the answer holds some, or has length 0: then the tower did not pass.
                let near = dot(answer, truth) / (dot(answer, answer).squareRoot() * length)
                cosine = near.isNaN || cosine.isNaN ? .nan : min(cosine, near)
                relative = max(relative, dot(away, away).squareRoot() / length)
                if relative.isNaN { cosine = .nan }
            } catch {
                failure = error.localizedDescription
            }
        }
        if cosine.isNaN, failure == nil { failure = "it gives no numbers" }
        return TowerTest(
            tower: tower, inputs: inputs.count, cosine: cosine, relative: relative, gate: gate, failure: failure)
    }

    private func goldens(_ tower: Tower, _ golden: SafeTensors) throws -> (inputs: [TowerInput], wanted: [[Float]]) {
        let answers = manifest.classifier == nil ? "image_embeddings" : "image_probabilities"
        let names = tower == .image ? ("pixels", answers) : ("ids", "text_embeddings")
        guard let given = golden[names.0], let answers = golden[names.1], let numbers = answers.float32,
            answers.shape.count == 2, answers.shape[0] > 0, given.shape.first == answers.shape[0]
        else {
            throw MobileCLIPError(.bundle, "golden.safetensors has no answers of the \(tower.rawValue) tower: export the bundle again")
        }
        let (count, width) = (answers.shape[0], answers.shape[1])
        let wanted = (0..<count).map { Array(numbers[$0 * width..<($0 + 1) * width]) }
        if let ids = given.int32 {
            let length = ids.count / count
            return ((0..<count).map { .ids(Array(ids[$0 * length..<($0 + 1) * length])) }, wanted)
        }
        // Golden pixels are kept as bytes; of pictures that are no bytes, as floats.
        guard let pixels = given.uint8.map({ $0.map { Float($0) / 255 } }) ?? given.float32 else {
            throw MobileCLIPError(.bundle, "golden.safetensors holds inputs of type \(given.dtype), which this package does not know")
        }
        let size = pixels.count / count
        return ((0..<count).map { .pixels(Array(pixels[$0 * size..<($0 + 1) * size])) }, wanted)
    }
}
