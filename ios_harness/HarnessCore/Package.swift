// swift-tools-version:6.0
import PackageDescription

// Linux has neither Core ML nor Core AI: there stand-in modules of the same names take their places, and everything that
// they answer is marked as simulated. They have Apple's shapes (open classes that are not Sendable, values that are taken
// once), so that Swift 6 mode refuses here what it refuses there.
#if os(Linux)
let standIns: [Target] = [
    .target(name: "PlainSHA256", swiftSettings: [.unsafeFlags(["-O"])]),
    .target(name: "StandInScript"),
    .target(name: "CoreML", dependencies: ["StandInScript"], path: "Sources/CoreMLStandIn"),
    .target(name: "CoreAI", dependencies: ["StandInScript"], path: "Sources/CoreAIStandIn"),
]
let apple: [Target.Dependency] = ["CoreML", "CoreAI"]
let system: [Target.Dependency] = ["PlainSHA256"]
let script: [Target.Dependency] = ["StandInScript"]
#else
let standIns: [Target] = []
let apple: [Target.Dependency] = []
let system: [Target.Dependency] = []
let script: [Target.Dependency] = []
#endif
// With types of their own: in one expression with the rest they keep the compiler busy for a minute.
let core: [Target.Dependency] = apple + system
let testing: [Target.Dependency] = [.target(name: "HarnessCore")] + apple + script
let products: [Product] = [
    .library(name: "HarnessCore", targets: ["HarnessCore"]),
    .executable(name: "mobileclip-harness", targets: ["mobileclip-harness"]),
]
let targets: [Target] = [
    .target(name: "HarnessCore", dependencies: core),
    .executableTarget(name: "mobileclip-harness", dependencies: ["HarnessCore"]),
    .executableTarget(name: "document-exchange", dependencies: ["HarnessCore"]),
    .testTarget(name: "HarnessCoreTests", dependencies: testing),
]

let package = Package(
    name: "HarnessCore",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: products,
    targets: standIns + targets,
    swiftLanguageModes: [.v6, .v5]
)
