import XCTest

@testable import MobileCLIPKit

/// What needs no vocabulary; equality with open_clip's ids is tested from Python (tests/clients).
final class TokenizerTests: XCTestCase {
    private func cleaned(_ text: String) -> String {
        String(String.UnicodeScalarView(TextCleaning.lowercased(TextCleaning.clean(text))))
    }

    func testWhitespaceIsCollapsedAndQuotesAreStraightened() {
        XCTAssertEqual(cleaned("  A \u{3000}“Dog”\t\n it’s  "), "a \"dog\" it's")
    }

    func testEntitiesAreUnescapedAsOftenAsOpenClipDoes() {
        XCTAssertEqual(cleaned("fish &amp; chips"), "fish & chips")
        XCTAssertEqual(cleaned("&amp;amp;amp;lt;"), "<")
        XCTAssertEqual(cleaned("P&EACUTE;REZ &hearts; &#8364; &#x80;"), "pérez ♥ € €")
        XCTAssertEqual(cleaned("this&not that"), "this¬ that")
    }

    func testAFinalSigmaIsTold() {
        XCTAssertEqual(cleaned("ΟΔΟΣ ΣΟΦΙΑ Σ"), "οδος σοφια σ")
    }

    func testWordsAreSplitAsThePatternSays() {
        let words = WordSplitting.pieces(Array("don't 3d !? <end>".unicodeScalars)).map { word, _ in
            String(String.UnicodeScalarView(word))
        }
        XCTAssertEqual(words, ["don", "'t", "3", "d", "!?", "<", "end", ">"])
    }
}
