import Foundation

/// What goes wrong, by a `code` that an app can branch on; the message is one sentence for a person. The codes are those
/// of the packages in every language.
public struct MobileCLIPError: Error, LocalizedError, Equatable, Sendable {
    public enum Code: String, Sendable, CaseIterable {
        /// A bundle that is missing, damaged or not understood.
        case bundle
        /// Written by a newer version.
        case newer
        /// Embeddings of another space.
        case space
        /// No picture.
        case picture
        /// Pixel values outside [0, 1].
        case range
        /// A request that no answer fits: an embedding with NaN, fewer than one match, labels that are one prompt.
        case query
        /// An index that is damaged or not understood.
        case index
        case cancelled
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) { (self.code, self.message) = (code, message) }

    public var errorDescription: String? { message }
}
