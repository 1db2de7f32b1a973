// swift-tools-version:6.0
import PackageDescription

#if os(Linux)
let coreML: [Target.Dependency] = [.product(name: "CoreML", package: "HarnessCore")]  // a stand-in, for the tests
#else
let coreML: [Target.Dependency] = []
#endif

let package = Package(
    name: "Examples",
    platforms: [.iOS(.v17), .macOS(.v14)],
    dependencies: [.package(path: "../HarnessCore")],
    targets: [
        .executableTarget(
            name: "zero-shot", dependencies: [.product(name: "CLIPTokenizer", package: "HarnessCore")] + coreML)
    ],
    swiftLanguageModes: [.v5]
)
