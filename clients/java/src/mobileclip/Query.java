package mobileclip;

import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;

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

    /** {@code rows}: the ids of each label's prompt. */
    static void checkPrompts(List<String> names, List<int[]> rows) {
        Map<String, String> first = new HashMap<>();
        for (int index = 0; index < rows.size(); index++) {
            String other = first.put(Arrays.toString(rows.get(index)), names.get(index));
            if (other == null) continue;
            throw refused("the labels " + other + " and " + names.get(index)
                    + " are the same prompt to the tokenizer: leave one out, or rephrase it");
        }
    }

    private static MobileCLIPException refused(String what) {
        return new MobileCLIPException(MobileCLIPException.Code.QUERY, what);
    }
}
