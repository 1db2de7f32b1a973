package mobileclip;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.channels.OverlappingFileLockException;
import java.util.Random;

/** The lock of an output, of all processes and languages: a file {@code .NAME.partial.lock} next to it, which its writer
 * locks before it reads or replaces anything (docs/index_format.md). The system drops the lock with the process.
 *
 * A lock of Java's is the process's, and is lost as soon as the file is opened and closed a second time: the caller sees to
 * it that one writer of a process comes here for a file. */
final class WriterLock {
    private static final int TRIES = 5;
    private static final int PAUSE = 20; // ms: a run that tidies up holds it for a moment
    private final File path;
    private final RandomAccessFile file;

    private WriterLock(File path, RandomAccessFile file) {
        this.path = path;
        this.file = file;
    }

    /** INDEX where another writer has it. */
    static WriterLock of(File output) throws IOException {
        File path = new File(output.getAbsoluteFile().getParentFile(), "." + output.getName() + ".partial.lock");
        for (int left = TRIES; left > 0; left--) {
            RandomAccessFile file = new RandomAccessFile(path, "rw");
            try {
                if (file.getChannel().tryLock() != null && isAt(path, file)) return new WriterLock(path, file);
            } catch (OverlappingFileLockException own) { // of another class loader
                left = 0;
            } catch (IOException without) { // a disk that has no locks
                return new WriterLock(path, file);
            }
            file.close();
            pause();
        }
        throw busy(output);
    }

    // Whether the file that was locked is still the one at the path, and not one that its owner removed meanwhile. To open it
    // again would lose the lock.
    private static boolean isAt(File path, RandomAccessFile file) throws IOException {
        int length = 1 + new Random().nextInt(1 << 20);
        file.setLength(length);
        return path.length() == length;
    }

    private static void pause() {
        try {
            Thread.sleep(PAUSE);
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        }
    }

    static MobileCLIPException busy(File output) {
        return new MobileCLIPException(
                MobileCLIPException.Code.INDEX, output.getName() + " is being written by another writer: wait for it");
    }

    void close() throws IOException {
        path.delete(); // before the lock goes: nobody else's file is removed. Windows removes no open file, and keeps it.
        file.close();
    }
}
