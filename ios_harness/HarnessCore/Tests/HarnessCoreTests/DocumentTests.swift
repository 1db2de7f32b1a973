import XCTest

@testable import HarnessCore

final class DocumentTests: XCTestCase {
    func testAFaultIsNamedByItsField() throws {
        let folder = try JobFolder()
        let file = folder.folder.appendingPathComponent("job.json")
        let text = try String(contentsOf: file, encoding: .utf8)
        try text.replacingOccurrences(of: "\"seed\":7", with: "\"seed\":-7").write(to: file, atomically: true, encoding: .utf8)
        XCTAssertThrowsError(try DocumentFiles.read(file, as: Job.self)) { error in
            XCTAssertTrue("\(error)".contains("job.json is no Job of schema version 1: seed: seed must be in 0"), "\(error)")
        }
    }

    func testAFileIsWrittenWholeAndNothingElseStays() throws {
        let folder = try JobFolder()
        let place = folder.folder.appendingPathComponent("results")
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        try DocumentFiles.write(Snapshot(unixSeconds: 1), to: place.appendingPathComponent("one.json"))
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: place.path), ["one.json"])
    }

    func testHashesAreSHA256() {
        let text = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        XCTAssertEqual(FileHash.digest(Data()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertEqual(FileHash.digest(Data(text.utf8)), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    }

    func testLaunchArgumentsAreRead() throws {
        XCTAssertEqual(try Request.parse(["--", "--run", "run-1", "--exit"]), .run("run-1"))
        XCTAssertEqual(try Request.parse(["--remove", "run-1"]), .remove("run-1"))
        XCTAssertNil(try Request.parse([]))
        XCTAssertThrowsError(try Request.parse(["--run", "../etc"]))
    }

    func testAWorkspaceFindsItsJobs() throws {
        let folder = try JobFolder()
        let workspace = Workspace(documents: folder.folder)
        XCTAssertEqual(workspace.jobs(), [folder.folder])
        XCTAssertNil(workspace.jobFolder("run-1"))
    }
}
