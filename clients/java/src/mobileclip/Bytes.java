package mobileclip;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.util.zip.CRC32;

/** A file's bytes in memory. Java's buffers end at 2 GiB: a longer file is in several windows; each begins where
 * the one before has {@link #OVERLAP} bytes left, so that no embedding is cut. */
final class Bytes {
    /** Bytes that a window shares with the next: as many as the largest embedding has, 65,536 numbers of float32. */
    private static final int OVERLAP = 4 << 16;
    private static final int SHIFT = 30;

    final long size;
    private final ByteBuffer[] windows;
    private final int shift;

    private Bytes(long size, int shift) {
        this.size = size;
        this.shift = shift;
        windows = new ByteBuffer[(int) ((size + (1L << shift) - 1) >>> shift)];
    }

    private long start(int window) {
        return (long) window << shift;
    }

    private int length(int window) {
        return (int) Math.min(size - start(window), (1L << shift) + OVERLAP);
    }

    /** Maps a file into memory. */
    static Bytes map(FileChannel channel) throws IOException {
        Bytes found = new Bytes(channel.size(), SHIFT);
        for (int window = 0; window < found.windows.length; window++) {
            found.windows[window] = channel.map(FileChannel.MapMode.READ_ONLY, found.start(window), found.length(window))
                    .order(ByteOrder.LITTLE_ENDIAN);
        }
        return found;
    }

    static Bytes of(ByteBuffer whole) {
        return of(whole, SHIFT);
    }

    /** {@code shift}: a window is 2 to this power long, and the overlap. */
    static Bytes of(ByteBuffer whole, int shift) {
        Bytes found = new Bytes(whole.remaining(), shift);
        for (int window = 0; window < found.windows.length; window++) {
            ByteBuffer own = whole.duplicate();
            own.position(whole.position() + (int) found.start(window));
            own.limit(own.position() + found.length(window));
            found.windows[window] = own.slice().order(ByteOrder.LITTLE_ENDIAN);
        }
        return found;
    }

    /** The window that contains an offset, with {@link #OVERLAP} bytes after it, or as many as there are. */
    ByteBuffer window(long place) {
        return windows[(int) (place >>> shift)];
    }

    /** The place within its window. */
    int within(long place) {
        return (int) (place & (1L << shift) - 1);
    }

    int getInt(long place) {
        return window(place).getInt(within(place));
    }

    long getLong(long place) {
        return window(place).getLong(within(place));
    }

    /** A copy of some bytes. */
    byte[] copied(long from, int count) {
        byte[] found = new byte[count];
        for (int done = 0; done < count; ) done += read(from + done, found, done, count - done);
        return found;
    }

    /** The CRC-32 of some bytes, and of those that {@code sum} has seen. */
    int crc(CRC32 sum, long from, long count) {
        byte[] part = new byte[(int) Math.min(count, 1 << 16)];
        for (long done = 0; done < count; ) {
            int some = read(from + done, part, 0, (int) Math.min(count - done, part.length));
            sum.update(part, 0, some);
            done += some;
        }
        return (int) sum.getValue();
    }

    // As many of `most` bytes as the window has.
    private int read(long from, byte[] to, int at, int most) {
        ByteBuffer own = window(from).duplicate();
        own.position(within(from));
        int some = Math.min(most, own.remaining());
        own.get(to, at, some);
        return some;
    }
}
