// swift-tools-version:6.0
// The Swift package MobileCLIP (clients/swift). It stands here because SwiftPM looks for it at a repository's root.
import PackageDescription

// Linux has no Core ML: there ONNX Runtime runs bundles, as Debian's libonnxruntime-dev brings it.
#if os(Linux)
let onLinux: [Target] = [
    .systemLibrary(
        name: "CONNXRuntime", path: "clients/swift/Sources/CONNXRuntime", providers: [.apt(["libonnxruntime-dev"])]),
    .target(
        name: "MobileCLIPONNXRuntime", dependencies: ["MobileCLIP", "CONNXRuntime"],
        path: "clients/swift/Sources/MobileCLIPONNXRuntime"),
]
let linuxProducts: [Product] = [.library(name: "MobileCLIPONNXRuntime", targets: ["MobileCLIPONNXRuntime"])]
let engine: [Target.Dependency] = ["MobileCLIP", "MobileCLIPONNXRuntime"]
#else
let onLinux: [Target] = []
let linuxProducts: [Product] = []
let engine: [Target.Dependency] = ["MobileCLIP"]
#endif
let products: [Product] = [
    .library(name: "MobileCLIP", targets: ["MobileCLIP"]),
    .executable(name: "mobileclip-client", targets: ["mobileclip-client"]),
]
let targets: [Target] = [
    .target(
        name: "MobileCLIP", path: "clients/swift/Sources/MobileCLIP",
        resources: [.copy("PrivacyInfo.xcprivacy")]),
    .executableTarget(
        name: "mobileclip-client", dependencies: engine, path: "clients/swift/Sources/mobileclip-client"),
    .testTarget(
        name: "MobileCLIPTests", dependencies: engine, path: "clients/swift/Tests/MobileCLIPTests"),
]

let package = Package(
    name: "MobileCLIP",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: products + linuxProducts,
    targets: targets + onLinux,
    swiftLanguageModes: [.v6]
)
