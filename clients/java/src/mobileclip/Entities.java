package mobileclip;

import java.util.HashMap;
import java.util.Map;

/** HTML 5's named character references. */
final class Entities {
    // Name, with its semicolon and for some also without -> what it means.
    private static final Map<String, String> NAMES = new HashMap<>();

    static {
        for (String entry : EntityTable.table().trim().split(" ")) {
            int equals = entry.indexOf('=');
            StringBuilder meaning = new StringBuilder();
            for (String code : entry.substring(equals + 1).split("\\+")) meaning.appendCodePoint(Integer.parseInt(code, 16));
            boolean bare = entry.charAt(equals - 1) == '!';
            String name = entry.substring(0, bare ? equals - 1 : equals);
            NAMES.put(name + ";", meaning.toString());
            if (bare) NAMES.put(name, meaning.toString());
        }
    }

    private Entities() {}

    /** Text of a name that ends in a semicolon, or may be without one; null: unknown. */
    static String named(String name) {
        return NAMES.get(name);
    }

    /** A text with the longest name that it begins with replaced; null where it begins with none. */
    static String prefixed(String text) {
        for (int end = text.length(); end > 1; end--) {
            String known = NAMES.get(text.substring(0, end));
            if (known != null) return known + text.substring(end);
        }
        return null;
    }
}
