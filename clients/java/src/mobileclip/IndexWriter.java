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
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.zip.CRC32;

/** Adds pictures to an index of int8, as docs/index_format.md has it: an app keeps its own library, and every reader of the
 * format reads it. What was committed before stays whole where the app is killed. One writer at a time, of all processes. */
public final class IndexWriter implements Closeable {
    private static final Charset UTF_8 = Charset.forName("UTF-8");
    /** Rows per block at most: of 512 numbers they take 8 MB. */
    private static final int AT_ONCE = 1 << 14;
    /** Files that are being written here. A lock of Java's is the process's: it is lost as soon as the file is opened
     * and closed elsewhere in the process, to be read say. So readers share the writer's channel. */
    private static final Map<File, RandomAccessFile> WRITTEN = new HashMap<>();

    private final File path;
    private final RandomAccessFile file;
    private final List<ByteBuffer> pending = new ArrayList<>();
    private Index index;
    private Set<String> ids;
    private int rows;

    /** A new index of a model's pictures; a file that is there is replaced. */
    public static IndexWriter create(File path, Manifest manifest) throws IOException {
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
        header.position(96);
        header.put(slot(1, header.capacity()));
        synchronized (WRITTEN) {
            if (WRITTEN.containsKey(path.getCanonicalFile())) throw written(path);
        }
        // Beside it, and then in its place: whoever reads the old one goes on reading it.
        File partial = new File(path.getPath() + ".partial");
        try (RandomAccessFile made = new RandomAccessFile(partial, "rw")) {
            made.setLength(0);
            made.write(header.array());
        }
        // Windows renames over no file.
        if (partial.renameTo(path) || path.delete() && partial.renameTo(path)) return open(path);
        partial.delete();
        throw new IOException(path + " cannot be replaced");
    }

    /** An index that is there. What a writer that was killed left behind the committed end is cut off. */
    public static IndexWriter open(File path) throws IOException {
        File canonical = path.getCanonicalFile();
        synchronized (WRITTEN) {
            if (WRITTEN.containsKey(canonical)) throw written(path);
            RandomAccessFile file = new RandomAccessFile(path, "rw");
            try {
                if (file.getChannel().tryLock() == null) throw written(path);
                IndexWriter found = new IndexWriter(canonical, file);
                WRITTEN.put(canonical, file);
                return found;
            } catch (OverlappingFileLockException own) { // of another class loader
                file.close();
                throw written(path);
            } catch (IOException | RuntimeException failed) {
                file.close();
                throw failed;
            }
        }
    }

    private static MobileCLIPException written(File path) {
        return refused(path.getName() + " is being written by another writer: wait for it");
    }

    /** A file in memory, which is read without taking the lock from a writer of this process. */
    static Bytes mapped(File file) throws IOException {
        synchronized (WRITTEN) {
            RandomAccessFile own = WRITTEN.get(file.getCanonicalFile());
            if (own != null) return Bytes.map(own.getChannel());
            try (RandomAccessFile opened = new RandomAccessFile(file, "r")) {
                return Bytes.map(opened.getChannel());
            }
        }
    }

    private IndexWriter(File path, RandomAccessFile file) throws IOException {
        this.path = path;
        this.file = file;
        read();
        if (!index.store.equals("int8")) {
            throw refused("the index stores " + index.store + ", and only int8 is written here: embed it in Python");
        }
        file.setLength(index.end);
    }

    private void read() throws IOException {
        index = new Index(Bytes.map(file.getChannel()));
        ids = index.ids();
        rows = index.rows();
    }

    /** Adds pictures; nothing is in the file before {@link #commit}. An id that is there has to be removed first. */
    public void add(List<String> names, List<? extends Embedding> embeddings) {
        int count = names.size();
        for (Embedding one : embeddings) {
            one.check(index.embeddingSpace, "the index");
            if (one.values.length == index.dimension) continue;
            throw new MobileCLIPException(MobileCLIPException.Code.SPACE,
                    "the embedding has " + one.values.length + " numbers and the index " + index.dimension);
        }
        if (embeddings.size() != count) throw new IllegalArgumentException(count + " ids for " + embeddings.size() + " embeddings");
        Set<String> added = new HashSet<>(names);
        added.removeAll(ids);
        if (added.size() != count) throw refused("an id is there twice: remove its row first");
        for (int from = 0; from < count; from += AT_ONCE) {
            int to = Math.min(count, from + AT_ONCE);
            pending.add(rows(names.subList(from, to), embeddings.subList(from, to)));
        }
        ids.addAll(added);
        rows += count;
    }

    private ByteBuffer rows(List<String> names, List<? extends Embedding> embeddings) {
        int count = names.size();
        int dimension = index.dimension;
        int bytes = 0;
        for (String name : names) bytes += name.getBytes(UTF_8).length;
        int ends = aligned(count * dimension) + aligned(8 * count); // the stamps between are 0: nobody asks
        ByteBuffer body = buffer(ends + aligned(8 * count) + aligned(bytes));
        ByteBuffer told = body.duplicate();
        told.position(ends + aligned(8 * count));
        for (int row = 0; row < count; row++) {
            Embedding one = embeddings.get(row);
            for (float value : Vectors.unit(one.values)) {
                body.put((byte) Math.max(-127, Math.min(127, Math.rint(value / index.scale))));
            }
            told.put(names.get(row).getBytes(UTF_8));
            body.putLong(ends + 8 * row, told.position() - ends - aligned(8 * count));
        }
        return block("ROWS", body, count, bytes);
    }

    /** Removes rows by their numbers, as {@link Index.Match} has them. Their ids may be added again after a commit. */
    public void remove(int... gone) {
        ByteBuffer body = buffer(aligned(8 * gone.length));
        for (int row : gone) {
            if (row < 0 || row >= rows) throw refused("a row is to be removed that is not there");
            body.putLong(row);
        }
        if (gone.length > 0) pending.add(block("GONE", body, gone.length, 0));
    }

    /** Writes what was added and removed: whole, or as if it had not been asked for. */
    public void commit() throws IOException {
        if (pending.isEmpty()) return;
        file.seek(index.end);
        for (ByteBuffer block : pending) file.write(block.array());
        long end = file.getFilePointer();
        file.getFD().sync();
        // The slot with the lower sequence: the other one stays until this is on the disk.
        file.seek(index.slot == 96 ? 64 : 96);
        file.write(slot(index.sequence + 1, end));
        file.getFD().sync();
        pending.clear();
        read();
    }

    /** Gives the file back to other writers. What was not committed is not in it. */
    @Override
    public void close() throws IOException {
        synchronized (WRITTEN) {
            WRITTEN.remove(path, file);
            file.close();
        }
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
