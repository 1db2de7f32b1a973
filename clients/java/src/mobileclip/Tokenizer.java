package mobileclip;

import java.nio.charset.Charset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** From text to token ids, as open_clip's tokenizer gives them; mojibake, which it repairs, stays as it is. */
public final class Tokenizer {
    // Of a text in lower case. A long s is an s to open_clip's pattern, which does not regard case; and U+0345, a mark
    // whose capital is a letter, is neither a letter nor anything else to it.
    private static final Pattern PIECES = Pattern.compile("'[s\u017f]|'t|'re|'ve|'m|'ll|'d|\\p{L}+"
            + "|\\p{N}|[^\\x09-\\x0d\\x1c-\\x20\\u0085\\p{Z}\\p{L}\\p{N}\\u0345]+");
    // As many characters of a text as a context's tokens are given are read: merging is quadratic in a long word, and of
    // an honest text the tokens that are kept end long before (mobileclip_deploy/network/model/tokenizer.py).
    private static final int CHARACTERS_A_TOKEN = 64;
    // Every byte, inside a word and at its end, and the two special tokens.
    private static final int UNMERGED = 2 * 256 + 2;
    private static final int CACHED = 10_000;
    private static final Charset UTF_8 = Charset.forName("UTF-8");
    // Every byte as a character that can be seen: those of Latin-1 that can, the others from U+0100 on.
    private static final char[] BYTES = new char[256];

    static {
        char next = 256;
        for (int code = 0; code < 256; code++) {
            boolean shown = (code >= 33 && code <= 126) || (code >= 161 && code <= 172) || code >= 174;
            BYTES[code] = shown ? (char) code : next++;
        }
    }

    private final Map<String, Integer> vocabulary = new HashMap<>();
    private final Map<String, Integer> ranks = new HashMap<>();
    private final Map<String, int[]> cache = new HashMap<>();
    private final Manifest.Text settings;

    Tokenizer(Map<?, ?> vocabulary, String merges, Manifest.Text settings) {
        for (Map.Entry<?, ?> entry : vocabulary.entrySet()) {
            Object id = entry.getValue();
            if (!(id instanceof Double) || (Double) id < 0 || (Double) id != ((Double) id).intValue()) throw apart();
            this.vocabulary.put((String) entry.getKey(), ((Double) id).intValue());
        }
        for (String line : merges.split("\r?\n")) {
            if (!line.isEmpty() && !line.startsWith("#version")) ranks.put(line, ranks.size());
        }
        // Half of either would give other tokens without a word.
        if (ranks.size() != vocabulary.size() - UNMERGED) throw apart();
        this.settings = settings;
    }

    /** A text's ids. */
    public static final class Ids {
        /** Start, the text, end, then padding; the end stays last where text is cut [context length]. */
        public final int[] ids;
        /** How many there were, start and end included. */
        public final int tokens;
        /** What was left out of a text with more tokens, cleaned; else empty. */
        public final String rest;

        Ids(int[] ids, int tokens, String rest) {
            this.ids = ids;
            this.tokens = tokens;
            this.rest = rest;
        }
    }

    /** The ids of a text. */
    public synchronized Ids ids(String text) {
        int length = settings.contextLength;
        int most = CHARACTERS_A_TOKEN * length;
        int end = text.codePointCount(0, text.length()) <= most ? text.length() : text.offsetByCodePoints(0, most);
        String cleaned = Cleaning.clean(text.substring(0, end));
        int[] found = new int[length];
        Arrays.fill(found, settings.pad);
        found[0] = settings.sot;
        int tokens = 1;
        int kept = -1; // where the text goes on that is left out
        for (Matcher matcher = PIECES.matcher(cleaned); matcher.find(); ) {
            int[] word = word(matcher.group());
            for (int index = 0; index < word.length && tokens + index < length; index++) found[tokens + index] = word[index];
            tokens += word.length;
            if (tokens >= length && kept < 0) kept = matcher.start();
        }
        found[Math.min(tokens, length - 1)] = settings.eot;
        tokens++;
        return new Ids(found, tokens, tokens > length ? cleaned.substring(kept) + text.substring(end) : "");
    }

    private int[] word(String piece) {
        int[] known = cache.get(piece);
        if (known != null) return known;
        List<String> parts = new ArrayList<>();
        for (byte code : piece.getBytes(UTF_8)) parts.add(String.valueOf(BYTES[code & 255]));
        parts.set(parts.size() - 1, parts.get(parts.size() - 1) + "</w>");
        while (parts.size() > 1) {
            int best = -1;
            int lowest = Integer.MAX_VALUE;
            for (int index = 0; index + 1 < parts.size(); index++) {
                Integer rank = ranks.get(parts.get(index) + " " + parts.get(index + 1));
                if (rank != null && rank < lowest) {
                    best = index;
                    lowest = rank;
                }
            }
            if (best < 0) break;
            parts = merged(parts, parts.get(best), parts.get(best + 1));
        }
        int[] found = new int[parts.size()];
        for (int index = 0; index < found.length; index++) {
            Integer id = vocabulary.get(parts.get(index));
            if (id == null) throw apart();
            found[index] = id;
        }
        if (cache.size() >= CACHED) cache.clear();
        cache.put(piece, found);
        return found;
    }

    // Every place of the best pair at once, from left to right.
    private static List<String> merged(List<String> parts, String left, String right) {
        List<String> found = new ArrayList<>();
        for (int index = 0; index < parts.size(); index++) {
            boolean pair = parts.get(index).equals(left) && index + 1 < parts.size() && parts.get(index + 1).equals(right);
            found.add(pair ? left + right : parts.get(index));
            if (pair) index++;
        }
        return found;
    }

    private static MobileCLIPException apart() {
        return new MobileCLIPException(
                MobileCLIPException.Code.BUNDLE, "vocab.json and merges.txt do not belong together: export the bundle again");
    }
}
