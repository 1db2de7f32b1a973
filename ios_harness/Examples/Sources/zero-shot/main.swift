import Foundation

// zero-shot BUNDLE IMAGE LABEL[,LABEL...]: which of the labels an image shows.

func end(_ text: String, code: Int32) -> Never {
    FileHandle.standardError.write(Data("\(text)\n".utf8))
    exit(code)
}

let arguments = CommandLine.arguments
guard arguments.count == 4 else { end("usage: zero-shot BUNDLE IMAGE LABEL[,LABEL...]", code: 2) }
do {
    let classifier = try await ZeroShotClassifier.load(bundle: URL(fileURLWithPath: arguments[1]))
    let image = try loadImage(URL(fileURLWithPath: arguments[2]), classifier.preprocess)
    for (label, probability) in try classifier.classify(image, among: arguments[3].components(separatedBy: ",")) {
        print("\(label) \(String(format: "%.3f", probability))")
    }
} catch {
    end("error: \(error.localizedDescription)", code: 1)
}
