package mobileclip;

import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.Charset;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.zip.CRC32;

/** Adds pictures to an index of int8, as docs/index_format.md has it: an app keeps its own library, and every reader of the
 * format reads it. What was committed before stays whole where the app is killed. One writer at a time, of all processes;
 * it may be used from any thread. What goes wrong with the file has the code INDEX. */
public final class IndexWriter implements Closeable {
    private static final Charset UTF_8 = Charset.forName("UTF-8");
    /** Rows per block at most: of 512 numbers they take 8 MB. */
    private static final int AT_ONCE = 1 << 14;
    /** Files that are being written here. A lock of Java's is the process's: it is lost as soon as the file is opened
     * and closed elsewhere in the process, to be read say. So readers share the writer's channel. */
    private static final Map<File, IndexWriter> WRITTEN = new HashMap<>();

    private final File path;
    private final File canonical;
    private final WriterLock lock;
    private RandomAccessFile file;
    private final List<Row> added = new ArrayList<>();
    private final Set<Integer> removed = new TreeSet<>();
    private Index index;
    private Map<String, Integer> rowsById;

    private static final class Row {
        final String id;
        final long stamp;
        final byte[] integers;

        Row(String id, long stamp, byte[] integers) {
            this.id = id;
            this.stamp = stamp;
            this.integers = integers;
        }
    }

    private interface Work<T> {
        T run() throws IOException;
    }

    // What the system says of a file, as this package's exception.
    private static <T> T wrapping(File path, Work<T> work) {
        try {
            return work.run();
        } catch (IOException failed) {
            throw new MobileCLIPException(MobileCLIPException.Code.INDEX,
                    path.getName() + " cannot be written: " + failed.getMessage(), failed);
        }
    }

    /** A new index of a model's pictures; a file that is there is replaced. INDEX where another writer has it. */
    public static IndexWriter create(File path, Manifest manifest) {
        if (!(manifest.int8Scale > 0)) throw refused("the manifest says no `int8_scale`: export the bundle again");
        byte[] told = ("{\"embedding_space\": " + Json.quoted(manifest.embeddingSpace) + ", \"variant\": "
                + Json.quoted(manifest.variant) + ", \"tower\": \"image\"}").getBytes(UTF_8);
        ByteBuffer header = buffer(aligned(128 + told.length));
        header.put("MCDX\r\n\u001a\n".getBytes(UTF_8)).putInt(1).putInt(manifest.dimension).put((byte) 1);
        header.putInt(24, told.length).putFloat(32, (float) manifest.int8Scale);
        header.position(128);
        header.put(told);
        CRC32 sum = new CRC32();
        sum.update(header.array(), 0, 36);
        sum.update(told);
        header.putInt(28, (int) sum.getValue());
        return writing(path, header.array());
    }

    /** An index that is there. What a writer that was killed left after the committed end is cut off. */
    public static IndexWriter open(File path) {
        return writing(path, null);
    }

    private static IndexWriter writing(File path, byte[] header) {
        return wrapping(path, () -> {
            File canonical = path.getCanonicalFile();
            synchronized (WRITTEN) {
                if (WRITTEN.containsKey(canonical)) throw WriterLock.busy(path);
                WriterLock lock = WriterLock.of(path);
                try {
                    if (path.exists()) opened(path).close(); // Python's writer may hold the file alone
                    else if (header == null) throw new IOException("there is no such file");
                    if (header != null) replace(path, header, new ArrayList<Row>());
                    IndexWriter made = new IndexWriter(path, canonical, lock);
                    WRITTEN.put(canonical, made);
                    return made;
                } catch (IOException | RuntimeException failed) {
                    lock.close();
                    throw failed;
                }
            }
        });
    }

    private static RandomAccessFile opened(File path) throws IOException {
        RandomAccessFile file = new RandomAccessFile(path, "rw");
        try {
            if (file.getChannel().tryLock() != null) return file;
        } catch (OverlappingFileLockException own) { // of another class loader
            file.close();
            throw WriterLock.busy(path);
        } catch (IOException without) { // a disk that has no locks
            return file;
        }
        file.close();
        throw WriterLock.busy(path);
    }

    /** A file in memory, which is read without taking the lock from a writer of this process. */
    static Bytes mapped(File file) throws IOException {
        synchronized (WRITTEN) {
            IndexWriter own = WRITTEN.get(file.getCanonicalFile());
            if (own != null) return Bytes.map(own.file.getChannel());
            try (RandomAccessFile opened = new RandomAccessFile(file, "r")) {
                return Bytes.map(opened.getChannel());
            }
        }
    }

    private IndexWriter(File path, File canonical, WriterLock lock) throws IOException {
        this.path = path;
        this.canonical = canonical;
        this.lock = lock;
        file = opened(path);
        try {
            read();
            if (!index.store.equals("int8")) {
                throw refused("the index stores " + index.store + ", and only int8 is written here: embed it in Python");
            }
            file.setLength(index.end);
        } catch (IOException | RuntimeException failed) {
            file.close();
            throw failed;
        }
    }

    private void read() throws IOException {
        index = new Index(Bytes.map(file.getChannel()));
        rowsById = index.rowsById();
        added.clear();
        removed.clear();
    }

    /** The ids that are there, those that were added and are not committed yet among them. */
    public synchronized Set<String> ids() {
        return new HashSet<>(rowsById.keySet());
    }

    public synchronized boolean contains(String id) {
        return rowsById.containsKey(id);
    }

    /** Adds pictures; nothing is in the file before {@link #commit}. An id that is there has to be removed first. */
    public void add(List<String> ids, List<? extends Embedding> embeddings) {
        add(ids, embeddings, null);
    }

    /** {@code stamps}: one for each picture, which differs if it changed; 0 for none. A uint64: large ones are negative. */
    public synchronized void add(List<String> ids, List<? extends Embedding> embeddings, long[] stamps) {
        int count = ids.size();
        if (embeddings.size() != count || stamps != null && stamps.length != count) {
            throw new MobileCLIPException(MobileCLIPException.Code.QUERY, count + " ids for " + embeddings.size()
                    + " embeddings and " + (stamps == null ? "no" : stamps.length) + " stamps");
        }
        Set<String> names = new HashSet<>(ids);
        names.removeAll(rowsById.keySet());
        if (names.size() != count) throw refused("an id is there twice: remove its row first");
        List<Row> rows = new ArrayList<>();
        for (int place = 0; place < count; place++) {
            rows.add(new Row(ids.get(place), stamps == null ? 0 : stamps[place], integers(embeddings.get(place))));
        }
        for (Row row : rows) {
            rowsById.put(row.id, index.rowCount() + added.size());
            added.add(row);
        }
    }

    private byte[] integers(Embedding embedding) {
        embedding.check(index.embeddingSpace, "the index");
        if (embedding.values.length != index.dimension) {
            throw new MobileCLIPException(MobileCLIPException.Code.SPACE,
                    "the embedding has " + embedding.values.length + " numbers and the index " + index.dimension);
        }
        float[] values = Vectors.unit(embedding.values);
        byte[] made = new byte[values.length];
        for (int place = 0; place < made.length; place++) {
            made[place] = (byte) Math.max(-127, Math.min(127, Math.rint(values[place] / index.scale)));
        }
        return made;
    }

    /** Removes rows by their numbers, as {@link Index.Match} has them. Their ids may be added again. */
    public synchronized void remove(int... rows) {
        int count = index.rowCount();
        for (int row : rows) {
            if (row < 0 || row >= count + added.size()) throw refused("a row is to be removed that is not there");
        }
        for (int row : rows) {
            String id = row < count ? index.id(row) : added.get(row - count).id;
            if (Integer.valueOf(row).equals(rowsById.get(id))) rowsById.remove(id);
            if (row >= count || !index.isRemoved(row)) removed.add(row);
        }
    }

    /** Removes pictures by their ids; those that are not there are passed over. */
    public synchronized void remove(Collection<String> ids) {
        for (String id : new LinkedHashSet<>(ids)) if (rowsById.containsKey(id)) remove(rowsById.get(id));
    }

    /** Writes what was added and removed: all of it or nothing. The rows of one commit are searched
     * faster than the same rows of many. */
    public synchronized void commit() {
        if (added.isEmpty() && removed.isEmpty()) return;
        wrapping(path, () -> {
            file.seek(index.end);
            writeRows(file, added);
            if (!removed.isEmpty()) file.write(gone(removed).array());
            long end = file.getFilePointer();
            file.getFD().sync();
            // The slot with the lower sequence: the other one stays until this is on the disk.
            file.seek(index.slot == 96 ? 64 : 96);
            file.write(slot(index.sequence + 1, end));
            file.getFD().sync();
            read();
            return null;
        });
    }

    /** Commits, and writes the index again without the rows that are removed and in as few blocks as it takes. Rows get
     * other numbers.
     *
     * @return how many rows went */
    public synchronized int compact() {
        commit();
        int[] present = index.rows();
        int gone = index.rowCount() - present.length;
        if (gone == 0 && index.blockCount() <= index.rowCount() / AT_ONCE + 1) return 0;
        return wrapping(path, () -> {
            List<Row> rows = new java.util.AbstractList<Row>() {
                @Override
                public Row get(int place) {
                    int row = present[place];
                    return new Row(index.id(row), index.stamp(row), index.integers(row));
                }

                @Override
                public int size() {
                    return present.length;
                }
            };
            synchronized (WRITTEN) { // who reads meanwhile waits
                byte[] header = index.header();
                replace(path, header, rows);
                file.close();
                file = opened(path);
                read();
            }
            return gone;
        });
    }

    /** Gives the file back to other writers. What was not committed is not in it. */
    @Override
    public void close() {
        wrapping(path, () -> {
            synchronized (WRITTEN) {
                if (WRITTEN.get(canonical) != this) return null; // closed before
                WRITTEN.remove(canonical);
                file.close();
                lock.close();
            }
            return null;
        });
    }

    @Override
    public String toString() {
        return "IndexWriter of " + path + ": " + rowsById.size() + " pictures";
    }

    // Next to it, and then in its place: whoever reads the old one goes on reading it.
    private static void replace(File path, byte[] header, List<Row> rows) throws IOException {
        File made = new File(path.getAbsoluteFile().getParentFile(), "." + path.getName() + ".new");
        try (RandomAccessFile file = new RandomAccessFile(made, "rw")) {
            file.setLength(0);
            file.write(header);
            writeRows(file, rows);
            long end = file.getFilePointer();
            file.seek(64);
            file.write(new byte[32]);
            file.write(slot(1, end));
            file.getFD().sync();
        }
        // Windows renames over no file.
        if (made.renameTo(path) || path.delete() && made.renameTo(path)) return;
        made.delete();
        throw new IOException("it cannot be replaced");
    }

    private static void writeRows(RandomAccessFile file, List<Row> rows) throws IOException {
        for (int from = 0; from < rows.size(); from += AT_ONCE) {
            file.write(block(rows.subList(from, Math.min(rows.size(), from + AT_ONCE))).array());
        }
    }

    private static ByteBuffer block(List<Row> rows) {
        int count = rows.size();
        List<Row> held = new ArrayList<>(rows); // each is made once
        int dimension = held.get(0).integers.length;
        byte[][] names = new byte[count][];
        int bytes = 0;
        for (int row = 0; row < count; row++) {
            names[row] = held.get(row).id.getBytes(UTF_8);
            bytes += names[row].length;
        }
        int stamps = aligned(count * dimension);
        int ends = stamps + aligned(8 * count);
        int first = ends + aligned(8 * count);
        ByteBuffer body = buffer(first + aligned(bytes));
        ByteBuffer told = body.duplicate();
        told.position(first);
        for (int row = 0; row < count; row++) {
            body.put(held.get(row).integers);
            told.put(names[row]);
            body.putLong(stamps + 8 * row, held.get(row).stamp);
            body.putLong(ends + 8 * row, told.position() - first);
        }
        return block("ROWS", body, count, bytes);
    }

    private static ByteBuffer gone(Set<Integer> rows) {
        ByteBuffer body = buffer(aligned(8 * rows.size()));
        for (int row : rows) body.putLong(row);
        return block("GONE", body, rows.size(), 0);
    }

    private static byte[] slot(long sequence, long end) {
        ByteBuffer found = buffer(32);
        found.putLong(sequence).putLong(end);
        return found.putInt(28, crc(found, 28)).array();
    }

    private static ByteBuffer block(String kind, ByteBuffer body, long count, long idBytes) {
        ByteBuffer found = buffer(64 + body.capacity());
        found.put(kind.getBytes(UTF_8)).putInt(crc(body, body.capacity())).putLong(found.capacity()).putLong(count).putLong(idBytes);
        found.putInt(32, crc(found, 32));
        System.arraycopy(body.array(), 0, found.array(), 64, body.capacity());
        return found;
    }

    private static int crc(ByteBuffer bytes, int count) {
        CRC32 found = new CRC32();
        found.update(bytes.array(), 0, count);
        return (int) found.getValue();
    }

    private static ByteBuffer buffer(int bytes) {
        return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static int aligned(int offset) {
        return (offset + 63) / 64 * 64;
    }

    private static MobileCLIPException refused(String what) {
        return new MobileCLIPException(MobileCLIPException.Code.INDEX, what);
    }
}
