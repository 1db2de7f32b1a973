import Foundation

/// The lock of an output, of all processes and languages: a file `.NAME.partial.lock` next to it, which its writer locks
/// before it reads or replaces anything (docs/index_format.md). The system drops the lock with the process.
final class WriterLock {
    private static let (tries, pause): (Int, UInt32) = (5, 20_000)  // a run that tidies up holds it for a moment
    private let path: String
    private let descriptor: Int32

    /// - Throws: `index` where another writer has it.
    init(of output: URL) throws {
        let name = output.lastPathComponent
        path = output.deletingLastPathComponent().appendingPathComponent(".\(name).partial.lock").path
        for _ in 0..<WriterLock.tries {
            let opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard opened >= 0 else {
                throw MobileCLIPError(.index, "\(name) cannot be written: \(String(cString: strerror(errno)))")
            }
            var (own, there) = (stat(), stat())
            if locked(opened), fstat(opened, &own) == 0, stat(path, &there) == 0, own.st_ino == there.st_ino {
                descriptor = opened
                return
            }
            close(opened)  // another writer has it, or its owner removed the file meanwhile
            usleep(WriterLock.pause)
        }
        throw WriterLock.busy(name)
    }

    deinit {
        unlink(path)  // before the lock goes: nobody else's file is removed
        close(descriptor)
    }

    static func busy(_ name: String) -> MobileCLIPError {
        MobileCLIPError(.index, "\(name) is being written by another writer: wait for it")
    }
}

/// Keeps other writers out by `flock`. Linux needs a second lock against Java's writers; Apple's kernels keep the locks of
/// `flock` and of `fcntl` in one list. Both go with the descriptor. True where the disk has no locks.
func locked(_ descriptor: Int32) -> Bool {
    if flock(descriptor, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK { return false }
    #if os(Linux)
    var whole = flock()
    whole.l_type = Int16(F_WRLCK)
    let ofDescription: Int32 = 37  // F_OFD_SETLK: not lost when this process closes the file elsewhere
    return fcntl(descriptor, ofDescription, &whole) == 0 || (errno != EAGAIN && errno != EACCES)
    #else
    return true
    #endif
}
