import Foundation

#if canImport(CryptoKit)
import CryptoKit
#else
import PlainSHA256
#endif

/// The lock that `publish` writes: the SHA-256 of each file of a commit.
struct Lock: Decodable, Sendable {
    struct File: Decodable, Sendable { let sha256: String }

    static let newestSchema = 1
    let repository, commit: String
    let bundles: [String]
    let files: [String: File]

    static func read(_ content: Data) throws -> Lock {
        guard let schema = try? JSONDecoder().decode(Manifest.Schema.self, from: content), schema.version >= 1 else {
            throw MobileCLIPError(.bundle, "the lock is not one of `publish`: pass OWNER--NAME.lock.json")
        }
        guard schema.version <= newestSchema else {
            throw MobileCLIPError(
                .newer, "the lock has schema version \(schema.version), and this package reads up to \(newestSchema): update it")
        }
        guard keyTwice(content) == nil, let lock = try? JSONDecoder().decode(Lock.self, from: content), lock.isValid else {
            throw MobileCLIPError(.bundle, "the lock's repository, commit, bundles or files are missing or not valid: publish again")
        }
        return lock
    }

    private var isValid: Bool {
        func matches(_ text: String, _ pattern: String) -> Bool {
            text.range(of: "\\A\(pattern)\\z", options: .regularExpression) != nil
        }
        let name = "[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"
        return matches(repository, "\(name)/\(name)") && matches(commit, "[0-9a-f]{40}") && !bundles.isEmpty
            && (bundles.filter { $0 != "." } + files.keys).allSatisfy { (try? Manifest.check(file: $0)) != nil }
            && files.values.allSatisfy { matches($0.sha256, "[0-9a-f]{64}") }
    }
}

/// A bundle's files. With a lock each is refused where its hash is not in the lock.
struct BundleFiles: Sendable {
    private let folder: URL
    private let lock: Lock?
    /// Of the bundle's paths in the lock.
    private var prefix = ""

    /// The hash of manifest.json says which of the lock's bundles this is.
    init(_ folder: URL, lock: URL? = nil) throws {
        self.folder = folder
        guard let lock else {
            self.lock = nil
            return
        }
        guard let content = try? Data(contentsOf: lock) else {
            throw MobileCLIPError(.bundle, "the lock cannot be read at \(lock.path): pass OWNER--NAME.lock.json")
        }
        let locked = try Lock.read(content)
        self.lock = locked
        let manifest = sha256(try bytes("manifest.json"))
        let prefixes = locked.bundles.map { $0 == "." ? "" : "\($0)/" }
        guard let found = prefixes.first(where: { locked.files["\($0)manifest.json"]?.sha256 == manifest }) else {
            throw differing("manifest.json", locked)
        }
        prefix = found
    }

    func read(_ name: String) throws -> Data {
        let content = try bytes(name)
        try check(name, content)
        return content
    }

    /// A tower's file or package, for an engine.
    func tower(_ name: String) throws -> URL {
        let file = folder.appendingPathComponent(name)
        guard let lock else { return file }
        let locked = lock.files.keys.filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
        let files = locked.filter { $0 == name || $0.hasPrefix("\(name)/") }
        guard !files.isEmpty else { throw differing(name, lock) }
        for path in files { try check(path, try bytes(path, .mappedIfSafe)) }
        // Core ML opens what Xcode compiled in place of the package.
        for place in [name, "\((name as NSString).deletingPathExtension).mlmodelc"] {
            let stored = try? FileManager.default.subpathsOfDirectory(atPath: folder.appendingPathComponent(place).path)
            for path in (stored ?? []).map({ "\(place)/\($0)" }) where !files.contains(where: { $0 == path || $0.hasPrefix("\(path)/") }) {
                throw differing(path, lock)
            }
        }
        return file
    }

    private func check(_ name: String, _ content: Data) throws {
        guard let lock, lock.files[prefix + name]?.sha256 != sha256(content) else { return }
        throw differing(name, lock)
    }

    private func differing(_ name: String, _ lock: Lock) -> MobileCLIPError {
        MobileCLIPError(.bundle, "\(name) is not the file in the lock of \(lock.repository)@\(lock.commit): download the bundle again")
    }

    private func bytes(_ name: String, _ options: Data.ReadingOptions = []) throws -> Data {
        do {
            return try Data(contentsOf: folder.appendingPathComponent(name), options: options)
        } catch {
            throw MobileCLIPError(.bundle, "\(name) cannot be read in \(folder.path): is it a bundle?")
        }
    }
}

func sha256(_ content: Data) -> String {
    #if canImport(CryptoKit)
    let bytes = Array(SHA256.hash(data: content))
    #else
    let bytes = PlainSHA256.hash(content)
    #endif
    return bytes.map { String(format: "%02x", $0) }.joined()
}
