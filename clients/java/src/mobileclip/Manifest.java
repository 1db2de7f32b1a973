package mobileclip;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What is read of a bundle's manifest.json. */
public final class Manifest {
    private static final int NEWEST_SCHEMA = 2;
    private static final String AGAIN = ": export the bundle again";

    public final String variant;
    /** Embeddings of spaces with other names cannot be compared. */
    public final String embeddingSpace;
    /** D, numbers per embedding. */
    public final int dimension;
    public final double logitScale;
    /** Of networks that judge each pair of picture and text alone, by a sigmoid; NaN of those that share one probability
     * among all labels. */
    public final double logitBias;
    /** In an index of int8 an integer times this is a component; NaN in bundles of earlier versions. */
    public final double int8Scale;
    /** Of prompts, with {} where the label goes. */
    public final String template;
    final Map<String, Tower> towers = new LinkedHashMap<>();
    final Preprocess preprocess;
    final Text text;
    /** Null where the bundle was exported without --background. */
    final Map<?, ?> relevance;
    /** Labels of a classifier ({@code export --labels}); null for bundles with embeddings. */
    public final List<String> classes;
    /** Of labels that were learned from pictures ({@code export --examples}): a multiple of the probability of "none of
     * these" that each needs, and a share of the best label's; null and NaN of others. */
    final double[] ratios;
    final double share;

    /** A tower's file, and what goes in and out. */
    static final class Tower {
        final String file;
        final boolean joint;
        final String precision;
        final String input;
        final String dtype;
        final long[] shape;
        final double[] range;
        final String output;

        Tower(Fields told) {
            file = told.text("file");
            if (!isPlain(file)) throw new IllegalArgumentException("`file` " + file);
            joint = told.has("function");
            precision = told.text("precision");
            Fields in = told.fields("input");
            input = in.text("name");
            dtype = in.text("dtype");
            shape = in.longs("shape");
            range = in.has("range") ? in.doubles("range") : new double[] {0, 1};
            output = told.fields("output").text("name");
        }
    }

    /** From a picture to a tower's input. */
    static final class Preprocess {
        final int size;
        final boolean keepsShape;
        final boolean cubic;
        /** Share of the resized side that the crop keeps; 0: all. */
        final double cropFraction;

        Preprocess(Fields told) {
            size = told.whole("size");
            keepsShape = told.oneOf("resize", "squash", "shorter_side");
            cubic = told.oneOf("interpolation", "bilinear", "bicubic");
            cropFraction = told.has("crop_fraction") ? told.number("crop_fraction") : 0;
            boolean crops = told.oneOf("crop", "none", "center");
            if (!crops && keepsShape) throw new IllegalArgumentException("`crop` none keeps no square");
            boolean crop = !told.has("crop_fraction") || cropFraction > 0 && cropFraction <= 1;
            if (size < 1 || size > 8192 || !crop) throw new IllegalArgumentException("`size`");
        }
    }

    /** The tokenizer's settings. */
    static final class Text {
        final int contextLength;
        final int sot;
        final int eot;
        final int pad;
        final String kind;

        Text(Fields told) {
            contextLength = told.whole("context_length");
            kind = told.has("kind") ? told.text("kind") : "clip";
            sot = kind.equals("clip") ? told.whole("sot") : 0;
            eot = told.whole("eot");
            pad = told.whole("pad");
            if (contextLength < 2) throw new IllegalArgumentException("`context_length`");
        }
    }

    private Manifest(Fields told) {
        variant = told.text("variant");
        embeddingSpace = told.text("embedding_space");
        dimension = told.whole("embed_dim");
        logitScale = told.number("logit_scale");
        logitBias = told.has("logit_bias") ? told.number("logit_bias") : Double.NaN;
        int8Scale = told.has("int8_scale") ? told.number("int8_scale") : Double.NaN;
        template = told.text("template");
        preprocess = new Preprocess(told.fields("preprocess"));
        if (told.fields("towers").has("text") && !told.has("tokenizer")) throw new IllegalArgumentException("`tokenizer`");
        text = told.has("tokenizer") ? new Text(told.fields("tokenizer")) : null;
        relevance = told.has("relevance") ? told.fields("relevance").values : null;
        classes = told.has("classifier") ? told.fields("classifier").texts("labels") : null;
        boolean learned = classes != null && told.fields("classifier").has("tags");
        Fields thresholds = learned ? told.fields("classifier").fields("tags").fields("thresholds") : null;
        ratios = learned ? thresholds.doubles("ratios") : null;
        share = learned ? thresholds.number("share") : Double.NaN;
        if (learned && ratios.length + 1 != classes.size()) throw new IllegalArgumentException("`tags`");
        Fields entries = told.fields("towers");
        if (entries.values.isEmpty()) throw new IllegalArgumentException("`towers`");
        for (Object name : entries.values.keySet()) towers.put((String) name, new Tower(entries.fields((String) name)));
    }

    @Override
    public String toString() {
        return variant + " of " + dimension + " numbers in " + embeddingSpace;
    }

    /** Reads manifest.json; one of a newer schema or of another target is refused. */
    static Manifest parse(String json, String target) {
        Object found = Json.parse(json, "manifest.json");
        Object version = found instanceof Map ? ((Map<?, ?>) found).get("schema_version") : null;
        if (!(version instanceof Double) || (Double) version < 1 || (Double) version % 1 != 0) {
            throw refused("manifest.json is no manifest of a bundle", null);
        }
        if ((Double) version > NEWEST_SCHEMA) {
            throw new MobileCLIPException(MobileCLIPException.Code.NEWER, "the bundle has schema version "
                    + ((Double) version).longValue() + ", and this package reads up to " + NEWEST_SCHEMA + ": update it");
        }
        Fields told = new Fields((Map<?, ?>) found);
        try {
            if (!told.text("target").equals(target)) {
                throw refused("the bundle is for " + told.text("target") + ": export it with --target " + target, null);
            }
            return new Manifest(told);
        } catch (IllegalArgumentException missing) {
            throw refused("manifest.json: " + missing.getMessage() + " is missing or not understood" + AGAIN, missing);
        }
    }

    /** Whether a path, as an address too, leads nowhere else than into the bundle. */
    static boolean isPlain(String path) {
        return path.matches("[^\\\\%?#:/]+(/[^\\\\%?#:/]+)*") && !("/" + path + "/").matches(".*/[.]{1,2}/.*");
    }

    /** Refuses a tower that takes other inputs than pixels [1, 3, S, S] in [0, 1], or ids [1, L] of CLIP's vocabulary. */
    Tower checked(String name) {
        Tower tower = towers.get(name);
        if (tower == null) throw refused("the bundle has no " + name + " tower: export it with one", null);
        if (tower.joint) {
            throw refused(tower.file + " has both towers, and this package reads a file of each: export with --joint in place"
                    + " of --joint only", null);
        }
        boolean image = name.equals("image");
        long[] wanted = image ? new long[] {3, preprocess.size, preprocess.size} : new long[] {text.contextLength};
        long[] own = tower.shape;
        boolean whole = own.length == wanted.length + 1 && Arrays.equals(Arrays.copyOfRange(own, 1, own.length), wanted);
        boolean fits = image
                ? tower.dtype.equals("float32") && Arrays.equals(tower.range, new double[] {0, 1})
                : tower.dtype.equals("int32") || tower.dtype.equals("int64");
        if (!whole || !fits) {
            throw refused("the " + name + " tower takes " + tower.dtype + " " + Arrays.toString(own)
                    + ", which this package does not make: export without --layout and --input", null);
        }
        if (!image && !text.kind.equals("clip")) {
            throw refused("a tokenizer of kind " + text.kind + " is not known to this package: update it, or load the image tower alone", null);
        }
        return tower;
    }

    static MobileCLIPException refused(String what, Throwable cause) {
        return new MobileCLIPException(MobileCLIPException.Code.BUNDLE, what, cause);
    }

    /** A JSON object's fields; IllegalArgumentException with the field's name where one is missing or of another type. */
    static final class Fields {
        final Map<?, ?> values;

        Fields(Map<?, ?> values) {
            this.values = values;
        }

        private <T> T get(String name, Class<T> type) {
            Object found = values.get(name);
            if (!type.isInstance(found)) throw new IllegalArgumentException("`" + name + "`");
            return type.cast(found);
        }

        boolean has(String name) {
            return values.get(name) != null;
        }

        String text(String name) {
            return get(name, String.class);
        }

        double number(String name) {
            double found = get(name, Double.class);
            if (Double.isInfinite(found) || Double.isNaN(found)) throw new IllegalArgumentException("`" + name + "`");
            return found;
        }

        int whole(String name) {
            double found = number(name);
            if (found != (int) found) throw new IllegalArgumentException("`" + name + "`");
            return (int) found;
        }

        Fields fields(String name) {
            return new Fields(get(name, Map.class));
        }

        boolean oneOf(String name, String no, String yes) {
            String found = text(name);
            if (!found.equals(no) && !found.equals(yes)) throw new IllegalArgumentException("`" + name + "` " + found);
            return found.equals(yes);
        }

        List<String> texts(String name) {
            List<String> found = new ArrayList<>();
            for (Object one : get(name, List.class)) {
                if (!(one instanceof String)) throw new IllegalArgumentException("`" + name + "`");
                found.add((String) one);
            }
            return Collections.unmodifiableList(found);
        }

        double[] doubles(String name) {
            List<?> all = get(name, List.class);
            double[] found = new double[all.size()];
            for (int index = 0; index < found.length; index++) {
                if (!(all.get(index) instanceof Double)) throw new IllegalArgumentException("`" + name + "`");
                found[index] = (Double) all.get(index);
            }
            return found;
        }

        long[] longs(String name) {
            List<?> all = get(name, List.class);
            long[] found = new long[all.size()];
            // A dimension that is not fixed is a name or null: here 0, which no tower's own dimension is.
            for (int index = 0; index < found.length; index++) {
                double one = all.get(index) instanceof Double ? (Double) all.get(index) : 0;
                if (one < 0 || one != (long) one) throw new IllegalArgumentException("`" + name + "`");
                found[index] = (long) one;
            }
            return found;
        }
    }
}
