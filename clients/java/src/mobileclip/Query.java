package mobileclip;

import java.util.HashSet;
import java.util.List;

/** Queries that are refused, in every language and in Python (clients/vectors/refusals.json). */
final class Query {
    private Query() {}

    static void checkText(String text) {
        if (text.trim().isEmpty()) throw refused("the text is empty: give words");
    }

    static void checkThreshold(double threshold) {
        if (threshold >= -1 && threshold <= 1) return;
        throw refused("the threshold " + threshold + " is not a cosine: give a number from -1 to 1");
    }

    static void checkLabels(List<String> names, String template) {
        if (!template.contains("{}")) {
            throw refused("the template has no {}, where the label goes: every prompt would be the same");
        }
        if (names.size() < 2) throw refused(names.size() + " labels tell nothing apart: give two or more");
        if (new HashSet<>(names).size() != names.size()) {
            throw refused("a label is there twice: it would share its probability with itself");
        }
    }

    private static MobileCLIPException refused(String what) {
        return new MobileCLIPException(MobileCLIPException.Code.QUERY, what);
    }
}
