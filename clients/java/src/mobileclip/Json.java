package mobileclip;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads JSON: objects as Map, arrays as List, String, Double, Boolean, null. */
final class Json {
    private static final int DEEPEST = 100;
    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** What a text holds; {@code file} is named in the message where it is no JSON, or has a key twice in one object, of
     * which readers differ in the one that they take. */
    static Object parse(String text, String file) {
        return parse(text, file, MobileCLIPException.Code.BUNDLE);
    }

    static Object parse(String text, String file, MobileCLIPException.Code code) {
        Json reader = new Json(text);
        try {
            Object found = reader.value(0);
            reader.space();
            if (reader.at == text.length()) return found;
        } catch (IllegalArgumentException | IndexOutOfBoundsException damaged) {
            throw broken(file, code, damaged);
        }
        throw broken(file, code, null);
    }

    private static MobileCLIPException broken(String file, MobileCLIPException.Code code, Throwable cause) {
        String twice = cause instanceof Twice ? " has the key " + cause.getMessage() + " twice" : " is not JSON";
        return new MobileCLIPException(code, file + twice + ": export the bundle again", cause);
    }

    private static final class Twice extends IllegalArgumentException {
        private static final long serialVersionUID = 1;

        Twice(String key) {
            super(key);
        }
    }

    /** A text as JSON has it. */
    static String quoted(String text) {
        StringBuilder found = new StringBuilder("\"");
        for (char one : text.toCharArray()) {
            if (one == '"' || one == '\\') found.append('\\').append(one);
            else if (one < ' ') found.append(String.format("\\u%04x", (int) one));
            else found.append(one);
        }
        return found.append('"').toString();
    }

    private Object value(int depth) {
        if (depth > DEEPEST) throw new IllegalArgumentException("too deep");
        space();
        char first = text.charAt(at);
        if (first == '{') return object(depth);
        if (first == '[') return array(depth);
        if (first == '"') return string();
        if (text.startsWith("true", at)) return skipped(4, true);
        if (text.startsWith("false", at)) return skipped(5, false);
        if (text.startsWith("null", at)) return skipped(4, null);
        int from = at;
        while (at < text.length() && "+-0123456789.eE".indexOf(text.charAt(at)) >= 0) at++;
        return Double.valueOf(text.substring(from, at));
    }

    private Object skipped(int length, Object value) {
        at += length;
        return value;
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> found = new LinkedHashMap<>();
        if (empty('}')) return found;
        do {
            space();
            String name = string();
            space();
            expect(':');
            if (found.containsKey(name)) throw new Twice(name);
            found.put(name, value(depth + 1));
        } while (more('}'));
        return found;
    }

    private List<Object> array(int depth) {
        List<Object> found = new ArrayList<>();
        if (empty(']')) return found;
        do found.add(value(depth + 1));
        while (more(']'));
        return found;
    }

    private boolean empty(char end) {
        at++;
        space();
        if (text.charAt(at) != end) return false;
        at++;
        return true;
    }

    private boolean more(char end) {
        space();
        char next = text.charAt(at++);
        if (next != ',' && next != end) throw new IllegalArgumentException("neither , nor " + end);
        return next == ',';
    }

    private String string() {
        expect('"');
        StringBuilder found = new StringBuilder();
        for (char next; (next = text.charAt(at++)) != '"';) {
            if (next != '\\') {
                found.append(next);
                continue;
            }
            next = text.charAt(at++);
            int escape = "\"\\/bfnrt".indexOf(next);
            if (next == 'u') {
                found.append((char) Integer.parseInt(text.substring(at, at + 4), 16));
                at += 4;
            } else if (escape >= 0) {
                found.append("\"\\/\b\f\n\r\t".charAt(escape));
            } else {
                throw new IllegalArgumentException("an escape that is none");
            }
        }
        return found.toString();
    }

    private void expect(char wanted) {
        if (text.charAt(at++) != wanted) throw new IllegalArgumentException("no " + wanted);
    }

    private void space() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
    }
}
