import XCTest

@testable import MobileCLIPKit

final class PictureTests: XCTestCase {
    private struct Resizes: Decodable {
        struct Case: Decodable {
            let width, height, channels: Int
            let seed, crc32: UInt32
            let preprocess: Preprocess
        }
        let cases: [Case]
    }

    private struct Pictures: Decodable {
        struct Case: Decodable {
            let what, layout: String
            let width, height, orientation: Int
            let matrix, range: String?
            let seed, crc32: UInt32
        }
        struct Refused: Decodable {
            let what, code: String
            let width, height, bytes: Int
        }
        let coefficients: [String: [Int]]
        let cases: [Case]
        let refused: [Refused]
    }

    func testPixelsArePillowsToTheBit() throws {
        let cases = try Vectors.read("resize", Resizes.self).cases
        XCTAssertGreaterThanOrEqual(cases.count, 40)
        for one in cases {
            let bytes = Vectors.noise(one.width * one.height * one.channels, one.seed)
            let layout = one.channels == 4 ? Picture.Layout.rgba : .rgb
            let picture = try Picture(bytes: bytes, width: one.width, height: one.height, layout: layout).rgb()
            let found = try one.preprocess.pixels(picture).map { UInt8(($0 * 255).rounded()) }
            XCTAssertEqual(checksum(found), one.crc32, "\(one)")
        }
    }

    func testAnotherFilterAndBlueForRedAreSeen() throws {
        let one = try XCTUnwrap(try Vectors.read("resize", Resizes.self).cases.first { $0.width == 640 })
        let bytes = Vectors.noise(one.width * one.height * 3, one.seed)
        func found(_ picture: Picture, _ how: Preprocess) throws -> UInt32 {
            checksum(try how.pixels(try picture.rgb()).map { UInt8(($0 * 255).rounded()) })
        }
        let right = Picture(bytes: bytes, width: one.width, height: one.height)
        XCTAssertEqual(try found(right, one.preprocess), one.crc32)
        let other = Preprocess(
            size: one.preprocess.size, resize: .shorterSide, crop: .center,
            interpolation: one.preprocess.interpolation == .bilinear ? .bicubic : .bilinear, cropFraction: nil)
        XCTAssertNotEqual(try found(right, other), one.crc32)
        let bgr = bytes.indices.map { bytes[$0 - $0 % 3 + 2 - $0 % 3] }
        XCTAssertNotEqual(try found(Picture(bytes: bgr, width: one.width, height: one.height), one.preprocess), one.crc32)
    }

    func testDecodersLayoutsBecomeTheSameColours() throws {
        let vectors = try Vectors.read("pictures", Pictures.self)
        XCTAssertEqual(Set(vectors.cases.map(\.layout)), Set(Picture.Layout.allCases.map(\.rawValue)))
        for one in vectors.cases {
            let layout = try XCTUnwrap(Picture.Layout(rawValue: one.layout))
            let picture = Picture(
                bytes: Vectors.noise(Picture.size(layout, one.width, one.height), one.seed), width: one.width, height: one.height,
                layout: layout, orientation: one.orientation, matrix: one.matrix.flatMap { Picture.Matrix(rawValue: $0) } ?? .bt601,
                range: one.range.flatMap { Picture.Range(rawValue: $0) } ?? .full)
            let found = try picture.rgb()
            let turned = (5...8).contains(one.orientation)
            XCTAssertEqual([found.width, found.height], turned ? [one.height, one.width] : [one.width, one.height])
            XCTAssertEqual(checksum(found.bytes), one.crc32, "\(one)")
        }
    }

    func testTheStepsOfYCbCrAreTheVectors() throws {
        for (name, wanted) in try Vectors.read("pictures", Pictures.self).coefficients {
            let words = name.split(separator: " ").map(String.init)
            let steps = YCbCrSteps(try XCTUnwrap(Picture.Matrix(rawValue: words[0])), try XCTUnwrap(Picture.Range(rawValue: words[1])))
            XCTAssertEqual([steps.luma, steps.redOfCr, steps.greenOfCb, steps.greenOfCr, steps.blueOfCb], wanted, name)
        }
    }

    func testWhatIsNoPictureIsRefused() throws {
        for one in try Vectors.read("pictures", Pictures.self).refused {
            let picture = Picture(bytes: [UInt8](repeating: 0, count: one.bytes), width: one.width, height: one.height)
            assertRefused(.picture, one.what) { _ = try picture.rgb() }
        }
        let long = try Picture(bytes: [UInt8](repeating: 0, count: 3 * 400_000), width: 400_000, height: 1).rgb()
        let how = Preprocess(size: 256, resize: .shorterSide, crop: .center, interpolation: .bilinear, cropFraction: nil)
        assertRefused(.picture) { _ = try how.bytes(long) }
        assertRefused(.picture) { _ = try PictureFile(URL(fileURLWithPath: #filePath)).picture() }
    }

    func testPaddedRowsArePacked() {
        let padded: [UInt8] = [1, 2, 3, 99, 4, 5, 6, 99]
        XCTAssertEqual(padded.withUnsafeBytes { packed($0.baseAddress!, rowBytes: 4, width: 3, rows: 2) }, [1, 2, 3, 4, 5, 6])
    }
}
