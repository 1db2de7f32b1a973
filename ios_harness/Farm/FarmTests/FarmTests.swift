import Foundation
import HarnessCore
import XCTest

/// For device farms, which start tests and nothing else: runs the jobs that were copied into this bundle's folder `job`, and
/// attaches what came out. `mobileclip-deploy benchmark ... --device ios --job FOLDER` writes them.
final class FarmTests: XCTestCase {
    func testTheJobsOfThisBundleAreRun() throws {
        let folder = try XCTUnwrap(Bundle(for: FarmTests.self).url(forResource: "job", withExtension: nil))
        let place = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: place) }
        let workspace = Workspace(documents: place)
        let ids = try workspace.adopt(jobsIn: folder)
        XCTAssertFalse(ids.isEmpty, "the folder job holds no job: write one there, and build again")
        for id in ids {
            try workspace.carryOut(.run(id), machine: Machine(), observe: { _ in })
            let attachment = XCTAttachment(contentsOfFile: workspace.record(id))
            attachment.name = workspace.record(id).lastPathComponent
            attachment.lifetime = .keepAlways
            add(attachment)
        }
    }
}
