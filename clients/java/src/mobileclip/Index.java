package mobileclip;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.Charset;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;

/** An index of embeddings (.mcdx), as docs/index_format.md lays it down byte by byte: mapped into memory, and searched
 * exactly. */
public final class Index {
    private static final String[][] STORES = {{"int8"}, {"float16"}, {"float32"}, {"bits", "int8"}, {"bits"}};
    private static final int DESCRIPTION = 128;
    private static final int RESCORED = 50;
    private static final Charset UTF_8 = Charset.forName("UTF-8");

    private final Bytes bytes;
    private final String[] arrays;
    final float scale;
    long sequence;
    /** Offset of the valid slot: 64 or 96. */
    int slot;
    final long end;
    private final long start;
    private final List<Block> blocks = new ArrayList<>();
    private final BitSet removed = new BitSet();
    private int rows;
    private Map<String, Integer> rowsById;

    /** Numbers per embedding. */
    public final int dimension;
    /** How embeddings are stored, as {@code embed --store} names it: int8, float16, float32, bits, bits-only. */
    public final String store;
    public final String embeddingSpace;
    /** The tower that embedded what is in it: image or text. */
    public final String tower;
    /** The space that the index was brought from by a bridge, whose matches are nearly those of new embeddings; or null. */
    public final String bridgedFrom;

    /** Rows that were written together: where each part begins. */
    private static final class Block {
        int first;
        int count;
        final long[] arrays = new long[2];
        long stamps;
        long ends;
        long ids;
    }

    /** A picture that was found. */
    public static final class Match {
        public final String id;
        public final int row;
        /** The cosine; of an index of bits alone an estimate. */
        public final double score;

        Match(String id, int row, double score) {
            this.id = id;
            this.row = row;
            this.score = score;
        }

        @Override
        public String toString() {
            return id + " (row " + row + ", " + score + ")";
        }
    }

    /** Maps a file into memory. INDEX where it cannot be read, or is none. */
    public static Index open(File file) {
        try {
            return new Index(IndexWriter.mapped(file));
        } catch (IOException unread) {
            throw new MobileCLIPException(
                    MobileCLIPException.Code.INDEX, file.getName() + " cannot be read: " + unread.getMessage(), unread);
        }
    }

    /** An index that is in memory already. */
    public static Index open(ByteBuffer bytes) {
        return new Index(Bytes.of(bytes));
    }

    Index(Bytes bytes) {
        this.bytes = bytes;
        if (bytes.size < DESCRIPTION || !latin(0, 8).equals("MCDX\r\n\u001a\n")) {
            throw new MobileCLIPException(MobileCLIPException.Code.INDEX, "not an index of embeddings (.mcdx)");
        }
        int version = bytes.getInt(8);
        if (version != 1) {
            throw new MobileCLIPException(MobileCLIPException.Code.NEWER, "the index has version "
                    + (version & 0xffffffffL) + ", and this package reads 1: update it");
        }
        dimension = bytes.getInt(12);
        int kind = copied(16, 1)[0];
        int told = bytes.getInt(24);
        boolean fits = kind >= 1 && kind <= 5 && dimension >= 1 && dimension <= 65536 && told >= 0 && told <= 1 << 20;
        if (!fits || bytes.size < DESCRIPTION + told) throw damaged("its header");
        byte[] head = copied(0, 36);
        for (int at = 28; at < 32; at++) head[at] = 0;
        CRC32 sum = new CRC32();
        sum.update(head);
        if (bytes.crc(sum, DESCRIPTION, told) != bytes.getInt(28)) throw damaged("its header");
        arrays = STORES[kind - 1];
        store = arrays.length == 2 ? "bits" : arrays[0].equals("bits") ? "bits-only" : arrays[0];
        scale = Float.intBitsToFloat(bytes.getInt(32));
        boolean integers = arrays[arrays.length - 1].equals("int8");
        if (Float.isNaN(scale) || Float.isInfinite(scale) || scale > 0 != integers) throw damaged("its scale");
        Manifest.Fields description = description(told);
        embeddingSpace = description.text("embedding_space");
        tower = description.has("tower") ? description.text("tower") : "image";
        bridgedFrom = description.has("bridged_from") ? description.text("bridged_from") : null;
        start = aligned(DESCRIPTION + told);
        end = committed();
        if (end < start) throw damaged("its committed end");
        for (long at = start; at < end; ) at = block(at, end);
    }

    private Manifest.Fields description(int told) {
        try {
            CharBuffer text = UTF_8.newDecoder().decode(ByteBuffer.wrap(copied(DESCRIPTION, told)));
            Object found = Json.parse(text.toString(), "the description", MobileCLIPException.Code.INDEX);
            if (!(found instanceof Map)) throw damaged("its description");
            Manifest.Fields fields = new Manifest.Fields((Map<?, ?>) found);
            fields.text("variant");
            String space = fields.text("embedding_space");
            if (space.isEmpty() || space.codePointCount(0, space.length()) > 1000) throw damaged("its description");
            Object tower = fields.values.get("tower");
            boolean known = !fields.values.containsKey("tower") || "image".equals(tower) || "text".equals(tower);
            if (!known || fields.has("bridged_from") && fields.text("bridged_from") == null) throw damaged("its description");
            return fields;
        } catch (CharacterCodingException | IllegalArgumentException wrong) {
            throw damaged("its description");
        }
    }

    /** Pictures that are there. */
    public int length() {
        return rows - removed.cardinality();
    }

    /** The numbers of the rows that are there, in ascending order. */
    public int[] rows() {
        int[] found = new int[length()];
        for (int place = 0, row = removed.nextClearBit(0); place < found.length; row = removed.nextClearBit(row + 1)) {
            found[place++] = row;
        }
        return found;
    }

    /** Their ids, in the same order. */
    public List<String> ids() {
        List<String> found = new ArrayList<>();
        for (int row : rows()) found.add(id(row));
        return found;
    }

    /** The row of an id; -1 where it is not in the index. */
    public synchronized int row(String id) {
        if (rowsById == null) rowsById = rowsById();
        Integer found = rowsById.get(id);
        return found == null ? -1 : found;
    }

    public boolean contains(String id) {
        return row(id) >= 0;
    }

    /** A row's stamp, which differs if a picture has changed since it was embedded; 0 where its writer gave none. A uint64:
     * large ones are negative. */
    public long stamp(int row) {
        Block block = blockOf(row);
        return bytes.getLong(block.stamps + 8L * (row - block.first));
    }

    // Of an id that is there twice the later row.
    Map<String, Integer> rowsById() {
        Map<String, Integer> found = new HashMap<>();
        for (int row : rows()) found.put(id(row), row);
        return found;
    }

    // Of all rows, removed ones too.
    int rowCount() {
        return rows;
    }

    int blockCount() {
        return blocks.size();
    }

    boolean isRemoved(int row) {
        return removed.get(row);
    }

    /** The stored integers of a row of an index of int8. */
    byte[] integers(int row) {
        Block block = blockOf(row);
        return copied(block.arrays[0] + (long) (row - block.first) * dimension, dimension);
    }

    /** The bytes before the first block. */
    byte[] header() {
        return copied(0, (int) start);
    }

    @Override
    public String toString() {
        return "Index of " + length() + " pictures in " + embeddingSpace + ", " + store;
    }

    private static MobileCLIPException damaged(String what) {
        String message = "the index is damaged: " + what + "; embed the pictures again";
        return new MobileCLIPException(MobileCLIPException.Code.INDEX, message);
    }

    private static long aligned(long offset) {
        return (offset + 63) / 64 * 64;
    }

    private byte[] copied(long from, int count) {
        return bytes.copied(from, count);
    }

    private String latin(long from, int count) {
        return new String(copied(from, count), Charset.forName("ISO-8859-1"));
    }

    private int crc(long from, long count) {
        return bytes.crc(new CRC32(), from, count);
    }

    // The end of the valid bytes, by the slot with the larger sequence whose checksum is right.
    private long committed() {
        long found = 0;
        for (int at = 64; at <= 96; at += 32) {
            if (crc(at, 28) != bytes.getInt(at + 28)) continue;
            long own = bytes.getLong(at);
            if (own == -1) continue; // the last one has no next: no writer writes it
            if (own + Long.MIN_VALUE <= sequence + Long.MIN_VALUE) continue; // unsigned
            sequence = own;
            slot = at;
            found = bytes.getLong(at + 8);
        }
        if (sequence == 0) throw damaged("neither slot is right");
        if (found < 0 || found > bytes.size) throw damaged("it is shorter than what was committed");
        return found;
    }

    private long block(long at, long end) {
        if (at + 64 > end) throw damaged("a block is cut");
        if (crc(at, 32) != bytes.getInt(at + 32)) throw damaged("a block's head");
        String kind = latin(at, 4);
        long size = bytes.getLong(at + 8);
        if (size < 64 || size > end - at) throw damaged("a block is cut");
        if (crc(at + 64, size - 64) != bytes.getInt(at + 4)) throw damaged("a block's body");
        long count = bytes.getLong(at + 16);
        long idBytes = bytes.getLong(at + 24);
        if (count < 0 || count > Math.min(size, Integer.MAX_VALUE - rows) || idBytes < 0 || idBytes > size) throw damaged("a block's size");
        if (kind.equals("GONE")) {
            if (size != 64 + aligned(8 * count)) throw damaged("a block's size");
            for (int index = 0; index < count; index++) {
                long gone = bytes.getLong(at + 64 + 8 * index);
                if (gone < 0 || gone >= rows) throw damaged("a row is removed that is not there");
                removed.set((int) gone);
            }
        } else if (kind.equals("ROWS")) {
            rows((int) count, at, size, idBytes);
        } else {
            throw damaged("a block of kind " + kind);
        }
        return at + size;
    }

    // Bytes of an embedding in an array.
    private int width(String kind) {
        if (kind.equals("bits")) return (dimension + 7) / 8;
        return (kind.equals("int8") ? 1 : kind.equals("float16") ? 2 : 4) * dimension;
    }

    private void rows(int count, long at, long size, long idBytes) {
        Block found = new Block();
        found.first = rows;
        found.count = count;
        long place = at + 64;
        for (int index = 0; index < arrays.length; index++) {
            found.arrays[index] = place;
            place += aligned((long) count * width(arrays[index]));
        }
        found.stamps = place;
        place += aligned(8L * count);
        found.ends = place;
        place += aligned(8L * count);
        found.ids = place;
        if (place + aligned(idBytes) != at + size) throw damaged("a block's size");
        long before = 0;
        for (long row = 0; row < count; row++) {
            long end = bytes.getLong(found.ends + 8 * row);
            if (end < before || end > idBytes) throw damaged("its ids");
            before = end;
        }
        if (count > 0 && before != idBytes) throw damaged("its ids");
        blocks.add(found);
        rows += count;
    }

    // The block of a row: the last that begins at it or before.
    private Block blockOf(int row) {
        if (row < 0 || row >= rows) {
            throw new MobileCLIPException(
                    MobileCLIPException.Code.INDEX, "the index has no row " + row + ": it has " + rows);
        }
        int low = 0;
        for (int high = blocks.size(); high - low > 1; ) {
            int middle = (low + high) >>> 1;
            if (blocks.get(middle).first <= row) low = middle;
            else high = middle;
        }
        return blocks.get(low);
    }

    /** The id of a row. */
    public String id(int row) {
        Block block = blockOf(row);
        long own = row - block.first;
        long from = own == 0 ? 0 : bytes.getLong(block.ends + 8 * (own - 1));
        return new String(copied(block.ids + from, (int) (bytes.getLong(block.ends + 8 * own) - from)), UTF_8);
    }

    /** The {@code top} nearest, the best first; of equal scores the lower row. Of another space is refused. */
    public List<Match> search(Embedding query, int top) {
        query.check(embeddingSpace, "the index");
        if (top < 1) {
            throw new MobileCLIPException(MobileCLIPException.Code.QUERY, "the nearest " + top + " are asked for: ask for 1 at least");
        }
        float[] values = query.values;
        if (values.length != dimension) {
            throw new MobileCLIPException(MobileCLIPException.Code.SPACE,
                    "the query has " + values.length + " numbers and the index " + dimension);
        }
        float[] vector = Vectors.unit(values);
        Scores.Query asked = new Scores.Query(vector);
        boolean twice = arrays.length == 2;
        Best best = new Best(twice ? (int) Math.min(Integer.MAX_VALUE, Math.max(RESCORED, 5L * top)) : top);
        for (Block block : blocks) score(asked, block, best);
        double factor = 1;
        if (scale > 0) factor = (double) asked.scale * scale;
        else if (store.equals("bits-only")) factor = asked.scale / Math.sqrt(dimension);
        if (twice) best = again(asked, best, top);
        List<Match> found = new ArrayList<>();
        for (Best.Row one : best.sorted()) found.add(new Match(id(one.row), one.row, one.score * factor));
        return found;
    }

    private void score(Scores.Query asked, Block block, Best best) {
        String kind = arrays[0];
        int width = width(kind);
        long place = block.arrays[0];
        for (int index = 0; index < block.count; index++, place += width) {
            ByteBuffer rows = bytes.window(place);
            int at = bytes.within(place);
            double score;
            if (kind.equals("int8")) score = asked.integers(rows, at);
            else if (kind.equals("bits")) score = asked.signs(rows, at);
            else score = kind.equals("float32") ? asked.floats(rows, at) : asked.halves(rows, at);
            if (Double.isNaN(score) || Double.isInfinite(score)) throw damaged("an embedding that is not finite");
            if (best.takes(score) && !removed.get(block.first + index)) best.add(block.first + index, score);
        }
    }

    // The nearest by bits, scored as int8.
    private Best again(Scores.Query asked, Best found, int top) {
        Best best = new Best(top);
        List<Best.Row> rows = found.sorted();
        Collections.sort(rows, (one, other) -> Integer.compare(one.row, other.row));
        for (Best.Row one : rows) {
            Block block = blockOf(one.row);
            long place = block.arrays[1] + (long) (one.row - block.first) * dimension;
            double score = asked.integers(bytes.window(place), bytes.within(place));
            if (best.takes(score)) best.add(one.row, score);
        }
        return best;
    }
}
