import Foundation

// zero-shot BUNDLE IMAGE LABEL[,LABEL...]: which of the labels an image shows.

let arguments = CommandLine.arguments
guard arguments.count == 4 else { fatalError("usage: zero-shot BUNDLE IMAGE LABEL[,LABEL...]") }
let classifier = try await ZeroShotClassifier.load(bundle: URL(fileURLWithPath: arguments[1]))
let image = try loadImage(URL(fileURLWithPath: arguments[2]), size: classifier.imageSize)
for (label, probability) in try classifier.classify(image, among: arguments[3].components(separatedBy: ",")) {
    print("\(label) \(String(format: "%.3f", probability))")
}
