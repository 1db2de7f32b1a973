// swift-tools-version:6.0
import PackageDescription

// Linux has neither Core ML nor Core AI: there stand-in modules of the same names take their places, and everything that
// they answer is marked as simulated. They have Apple's shapes (open classes that are not Sendable, values that are taken
// once), so that Swift 6 mode refuses here what it refuses there.
#if os(Linux)
let standIns: [Target] = [
    .target(name: "StandInScript"),
    .target(name: "CoreML", dependencies: ["StandInScript"], path: "Sources/CoreMLStandIn"),
    .target(name: "CoreAI", dependencies: ["StandInScript"], path: "Sources/CoreAIStandIn"),
]
let apple: [Target.Dependency] = ["CoreML", "CoreAI"]
let script: [Target.Dependency] = ["StandInScript"]
let standInProducts: [Product] = [.library(name: "CoreML", targets: ["CoreML"])]
#else
let standIns: [Target] = []
let apple: [Target.Dependency] = []
let script: [Target.Dependency] = []
let standInProducts: [Product] = []
#endif

let package = Package(
    name: "HarnessCore",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "HarnessCore", targets: ["HarnessCore"]),
        .library(name: "CLIPTokenizer", targets: ["CLIPTokenizer"]),
        .executable(name: "mobileclip-harness", targets: ["mobileclip-harness"]),
    ] + standInProducts,
    targets: standIns + [
        .target(name: "CLIPTokenizer"),
        .target(name: "HarnessCore", dependencies: apple),
        .executableTarget(name: "mobileclip-harness", dependencies: ["HarnessCore"]),
        .executableTarget(name: "document-exchange", dependencies: ["HarnessCore"]),
        .executableTarget(name: "clip-tokenize", dependencies: ["CLIPTokenizer"]),
        .testTarget(name: "HarnessCoreTests", dependencies: ["HarnessCore"] + apple + script),
        .testTarget(name: "CLIPTokenizerTests", dependencies: ["CLIPTokenizer"]),
    ],
    swiftLanguageModes: [.v6, .v5]
)
