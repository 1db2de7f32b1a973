import Foundation
import XCTest

@testable import MobileCLIPKit

/// clients/vectors, which the clients of every language answer alike.
enum Vectors {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../../vectors").standardized

    static func read<Value: Decodable>(_ name: String, _ type: Value.Type) throws -> Value {
        try JSONDecoder().decode(type, from: Data(contentsOf: folder.appendingPathComponent("\(name).json")))
    }

    /// x becomes (1664525 x + 1013904223) mod 2^32, and gives its highest byte.
    static func noise(_ count: Int, _ seed: UInt32) -> [UInt8] {
        var x = seed
        return (0..<count).map { _ in
            x = 1_664_525 &* x &+ 1_013_904_223
            return UInt8(x >> 24)
        }
    }
}

extension XCTestCase {
    func assertRefused(
        _ code: MobileCLIPError.Code, _ what: String = "", line: UInt = #line, _ work: () throws -> Void
    ) {
        XCTAssertThrowsError(try work(), what, line: line) { XCTAssertEqual(($0 as? MobileCLIPError)?.code, code, what, line: line) }
    }

    func assertRefused(
        _ code: MobileCLIPError.Code, _ what: String = "", line: UInt = #line, _ work: () async throws -> Void
    ) async {
        do {
            try await work()
            XCTFail("\(what): nothing was refused", line: line)
        } catch {
            XCTAssertEqual((error as? MobileCLIPError)?.code, code, what, line: line)
        }
    }
}

func checksum(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { Checksum.of($0) } }
