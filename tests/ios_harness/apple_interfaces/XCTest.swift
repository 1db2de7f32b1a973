import Foundation

// What the test for device farms uses of Apple's XCTest; Linux has one without attachments.

open class XCTestCase: NSObject {
    public func add(_ attachment: XCTAttachment) {}
}

open class XCTAttachment: NSObject {
    public enum Lifetime: Int, Sendable { case keepAlways, deleteOnSuccess }
    open var name: String?
    open var lifetime = Lifetime.deleteOnSuccess
    public convenience init(contentsOfFile url: URL) { self.init() }
}

public func XCTUnwrap<T>(_ expression: @autoclosure () throws -> T?) throws -> T { try expression()! }
public func XCTAssertFalse(_ expression: @autoclosure () throws -> Bool, _ message: @autoclosure () -> String = "") {}
