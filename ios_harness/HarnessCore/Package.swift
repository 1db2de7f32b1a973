// swift-tools-version:6.0
import PackageDescription

// Linux has no Core ML: there a stand-in module of the same name takes its place, and everything that it answers is
// marked as simulated. It has Apple's shapes (open classes that are not Sendable), so that Swift 6 mode refuses here what it
// refuses there.
#if os(Linux)
let standIn: [Target] = [.target(name: "CoreML", path: "Sources/CoreMLStandIn")]
let coreML: [Target.Dependency] = ["CoreML"]
let standInProducts: [Product] = [.library(name: "CoreML", targets: ["CoreML"])]
#else
let standIn: [Target] = []
let coreML: [Target.Dependency] = []
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
    targets: standIn + [
        .target(name: "CLIPTokenizer"),
        .target(name: "HarnessCore", dependencies: coreML),
        .executableTarget(name: "mobileclip-harness", dependencies: ["HarnessCore"]),
        .executableTarget(name: "document-exchange", dependencies: ["HarnessCore"]),
        .executableTarget(name: "clip-tokenize", dependencies: ["CLIPTokenizer"]),
        .testTarget(name: "HarnessCoreTests", dependencies: ["HarnessCore"] + coreML),
        .testTarget(name: "CLIPTokenizerTests", dependencies: ["CLIPTokenizer"]),
    ],
    swiftLanguageModes: [.v6, .v5]
)
