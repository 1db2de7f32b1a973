// swift-tools-version:6.0
// The Swift package MobileCLIPKit (clients/swift). It stands here because SwiftPM looks for it at a repository's root.
import PackageDescription

// Linux has no Core ML: there ONNX Runtime runs bundles, as Debian's libonnxruntime-dev brings it. It has no CryptoKit:
// there the harness's SHA-256 hashes files.
#if os(Linux)
let onLinux: [Target] = [
    .target(name: "PlainSHA256", path: "ios_harness/HarnessCore/Sources/PlainSHA256"),
    .systemLibrary(
        name: "CONNXRuntime", path: "clients/swift/Sources/CONNXRuntime", providers: [.apt(["libonnxruntime-dev"])]),
    .target(
        name: "MobileCLIPONNXRuntime", dependencies: ["MobileCLIPKit", "CONNXRuntime"],
        path: "clients/swift/Sources/MobileCLIPONNXRuntime"),
]
let linuxProducts: [Product] = [.library(name: "MobileCLIPONNXRuntime", targets: ["MobileCLIPONNXRuntime"])]
let engine: [Target.Dependency] = ["MobileCLIPKit", "MobileCLIPONNXRuntime"]
let system: [Target.Dependency] = ["PlainSHA256"]
#else
let onLinux: [Target] = []
let linuxProducts: [Product] = []
let engine: [Target.Dependency] = ["MobileCLIPKit"]
let system: [Target.Dependency] = []
#endif
let products: [Product] = [
    .library(name: "MobileCLIPKit", targets: ["MobileCLIPKit"]),
    .executable(name: "mobileclip-client", targets: ["mobileclip-client"]),
]
let targets: [Target] = [
    .target(
        name: "MobileCLIPKit", dependencies: system, path: "clients/swift/Sources/MobileCLIPKit",
        resources: [.copy("PrivacyInfo.xcprivacy")]),
    .executableTarget(
        name: "mobileclip-client", dependencies: engine, path: "clients/swift/Sources/mobileclip-client"),
    .testTarget(
        name: "MobileCLIPKitTests", dependencies: engine, path: "clients/swift/Tests/MobileCLIPKitTests"),
]

let package = Package(
    name: "MobileCLIPKit",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: products + linuxProducts,
    targets: targets + onLinux,
    swiftLanguageModes: [.v6]
)
