package mobileclip;

import java.text.Normalizer;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What open_clip does to a text before it splits it into words: ftfy's repairs but for mojibake, HTML's references
 * unescaped twice, white space collapsed, lower case. */
final class Cleaning {
    // What bytes 0x80 to 0x9f mean in Windows-1252; those that mean nothing stay.
    private static final String WINDOWS_1252 = "\u20ac\u0081\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152"
            + "\u008d\u017d\u008f\u0090\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u009d\u017e\u0178";
    private static final Map<String, String> LIGATURES = new HashMap<>();

    static {
        String pairs = "\u0132 IJ \u0133 ij \u0149 \u02bcn \u01f1 DZ \u01f2 Dz \u01f3 dz \u01c4 D\u017d \u01c5 D\u017e \u01c6 d\u017e"
                + " \u01c7 LJ \u01c8 Lj \u01c9 lj \u01ca NJ \u01cb Nj \u01cc nj \ufb00 ff \ufb01 fi \ufb02 fl \ufb03 ffi \ufb04 ffl"
                + " \ufb05 \u017ft \ufb06 st";
        String[] words = pairs.split(" ");
        for (int index = 0; index < words.length; index += 2) LIGATURES.put(words[index], words[index + 1]);
    }

    private static final Pattern REPLACED = Pattern.compile(
            "[\\u0080-\\u009f\\u3000\\uff01-\\uffef\\u0132\\u0133\\u0149\\u01c4-\\u01cc\\u01f1-\\u01f3\\ufb00-\\ufb06]");
    private static final Pattern TERMINAL_ESCAPES = Pattern.compile("\\x1b\\[[\\p{Nd};]*[a-zA-Z]");
    private static final Pattern CONTROLS =
            Pattern.compile("[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f\\u206a-\\u206f\\ufeff\\ufff9-\\ufffc]");
    private static final Pattern BREAKS = Pattern.compile("\\r\\n|[\\r\\u0085\\u2028\\u2029]");
    // What Python's str.split takes for white space; Java's \s has others.
    private static final Pattern SPACES = Pattern.compile(
            "[\\t-\\r\\x1c-\\x20\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+");
    private static final Pattern SINGLE = Pattern.compile("[\\u02bc\\u2018-\\u201b]");
    private static final Pattern DOUBLE = Pattern.compile("[\\u201c-\\u201f]");
    private static final Pattern REFERENCES =
            Pattern.compile("&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\\t\\n\\f <&#;]{1,32};?)");
    private static final Pattern UNAMBIGUOUS = Pattern.compile("&(#?[0-9A-Za-z]{1,24};)");

    private Cleaning() {}

    private interface Replacement {
        String of(String whole, String group);
    }

    private static String replaced(Pattern pattern, String text, Replacement replacement) {
        Matcher matcher = pattern.matcher(text);
        if (!matcher.find()) return text;
        StringBuilder found = new StringBuilder();
        int from = 0;
        do {
            String group = matcher.groupCount() > 0 ? matcher.group(1) : null;
            found.append(text, from, matcher.start()).append(replacement.of(matcher.group(), group));
            from = matcher.end();
        } while (matcher.find());
        return found.append(text, from, text.length()).toString();
    }

    /** A text as open_clip's tokenizer splits it. */
    static String clean(String text) {
        String found = SPACES.matcher(unescape(unescape(repair(text)))).replaceAll(" ");
        int from = found.startsWith(" ") ? 1 : 0;
        int to = found.endsWith(" ") && found.length() > from ? found.length() - 1 : found.length();
        return finalSigmas(found.substring(from, to)).toLowerCase(Locale.ROOT);
    }

    // A capital sigma is small as \u03c2 where it ends a word, else as \u03c3: by Unicode's rule, as Python has it. Java's
    // own goes by its word boundaries.
    private static String finalSigmas(String text) {
        if (text.indexOf('\u03a3') < 0) return text;
        StringBuilder found = new StringBuilder(text);
        for (int at = text.indexOf('\u03a3'); at >= 0; at = text.indexOf('\u03a3', at + 1)) {
            int before = at;
            int code = 0;
            while (before > 0 && ignored(code = text.codePointBefore(before))) before -= Character.charCount(code);
            boolean inside = before > 0 && cased(code);
            int after = at + 1;
            while (after < text.length() && ignored(code = text.codePointAt(after))) after += Character.charCount(code);
            boolean ends = after >= text.length() || !cased(code);
            found.setCharAt(at, inside && ends ? '\u03c2' : '\u03c3');
        }
        return found.toString();
    }

    private static boolean cased(int code) {
        return Character.isLowerCase(code) || Character.isUpperCase(code) || Character.isTitleCase(code);
    }

    // Unicode's Case_Ignorable.
    private static boolean ignored(int code) {
        int type = Character.getType(code);
        return type == Character.NON_SPACING_MARK || type == Character.ENCLOSING_MARK || type == Character.FORMAT
                || type == Character.MODIFIER_LETTER || type == Character.MODIFIER_SYMBOL
                || "'.:\u00b7\u0387\u055f\u05f4\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55\uff07\uff0e\uff1a".indexOf(code) >= 0;
    }

    // ftfy.fix_text: line by line, each until nothing changes any more.
    private static String repair(String text) {
        StringBuilder found = new StringBuilder();
        boolean unescapes = true;
        for (int from = 0, to; from < text.length(); from = to) {
            to = text.indexOf('\n', from) + 1;
            if (to == 0) to = text.length();
            String line = text.substring(from, to);
            if (line.indexOf('<') >= 0) unescapes = false; // looks like HTML: its references are left alone from here on
            for (String next; !(next = repairOnce(line, unescapes)).equals(line); ) line = next;
            found.append(line);
        }
        return found.toString();
    }

    private static String repairOnce(String line, boolean unescapes) {
        String found = unescapes ? replaced(UNAMBIGUOUS, line, Cleaning::unambiguous) : line;
        found = replaced(REPLACED, found, (whole, group) -> replacement(whole));
        found = SINGLE.matcher(found).replaceAll("'");
        found = DOUBLE.matcher(found).replaceAll("\"");
        found = BREAKS.matcher(found).replaceAll("\n");
        found = CONTROLS.matcher(TERMINAL_ESCAPES.matcher(found).replaceAll("")).replaceAll("");
        return Normalizer.normalize(found, Normalizer.Form.NFC);
    }

    // C1 controls as Windows-1252, ligatures as letters, full and half width as the usual one.
    private static String replacement(String character) {
        char code = character.charAt(0);
        if (code <= 0x9f) return WINDOWS_1252.substring(code - 0x80, code - 0x7f);
        if (code == 0x3000) return " ";
        return code >= 0xff01 ? Normalizer.normalize(character, Normalizer.Form.NFKC) : LIGATURES.get(character);
    }

    // Python's html.unescape: with or without semicolon, the longest name that is known.
    private static String unescape(String text) {
        return replaced(REFERENCES, text, (whole, name) -> {
            if (name.charAt(0) == '#') return numeric(name);
            String found = Entities.prefixed(name);
            return found == null ? whole : found;
        });
    }

    // ftfy's: only what ends in a semicolon, and names in capitals where they are not ambiguous.
    private static String unambiguous(String whole, String name) {
        if (name.charAt(0) == '#') {
            String value = unescape(whole);
            return value.indexOf(';') >= 0 ? whole : value; // ftfy takes a semicolon for a sign that not all was read
        }
        String known = Entities.named(name);
        if (known != null) return known;
        String small = name.equals(name.toUpperCase(Locale.ROOT)) ? Entities.named(name.toLowerCase(Locale.ROOT)) : null;
        return small != null && unescape(whole).equals(whole) ? small.toUpperCase(Locale.ROOT) : whole;
    }

    private static String numeric(String name) {
        boolean hexadecimal = name.charAt(1) == 'x' || name.charAt(1) == 'X';
        int radix = hexadecimal ? 16 : 10;
        int code = 0;
        for (int at = hexadecimal ? 2 : 1; at < name.length() && name.charAt(at) != ';'; at++) {
            code = Math.min(0x110000, code * radix + Character.digit(name.charAt(at), radix));
        }
        if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return "\ufffd";
        if (code == 0x0d) return "\r";
        if (code >= 0x80 && code <= 0x9f) return WINDOWS_1252.substring(code - 0x80, code - 0x7f);
        boolean nothing = (code < 0x20 && code != 0x09 && code != 0x0a && code != 0x0c) || code == 0x7f
                || (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) == 0xfffe;
        return nothing ? "" : new String(Character.toChars(code));
    }
}
