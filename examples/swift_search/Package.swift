// swift-tools-version:6.0
import PackageDescription

// In an app of yours the package comes from its address: .package(url: ..., from: ...).
let package = Package(
    name: "search", platforms: [.macOS(.v13)],
    dependencies: [.package(name: "mobileclip-deploy", path: "../..")],
    targets: [
        .executableTarget(
            name: "search",
            dependencies: [
                .product(name: "MobileCLIPKit", package: "mobileclip-deploy"),
                .product(
                    name: "MobileCLIPONNXRuntime", package: "mobileclip-deploy", condition: .when(platforms: [.linux])),
            ])
    ]
)
