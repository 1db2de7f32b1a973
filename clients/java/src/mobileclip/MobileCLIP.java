package mobileclip;

import java.io.IOException;
import java.nio.charset.Charset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A bundle that mobileclip-deploy exported for ONNX: the same pixels, tokens and answers as in Python. Make it once:
 * loading takes as long as many inferences. Its methods may be called from any thread; inferences wait for each other. */
public final class MobileCLIP implements AutoCloseable {
    public final Manifest manifest;
    private final BundleFiles bundle;
    private final Map<String, Engine.Model> models = new LinkedHashMap<>();
    private Tokenizer tokenizer;
    private Relevance relevance;

    /** After each picture, how many are done; false ends the work with the code CANCELLED. */
    public interface Progress {
        boolean done(int pictures);
    }

    /** What was found for a query. */
    public static final class Answer {
        /** The best first; empty where nothing was found. */
        public final List<Index.Match> matches;
        /** False: "nothing found", the nearest is farther than what this query needs. */
        public final boolean found;
        /** The cosine that this query needs; NaN where nothing says one. */
        public final double needed;
        /** The nearest's score; NaN of an empty index. */
        public final double best;
        /** The space that the index was brought from, whose matches are nearly those of new embeddings; or null. */
        public final String bridgedFrom;

        Answer(List<Index.Match> matches, double needed, String bridgedFrom) {
            best = matches.isEmpty() ? Double.NaN : matches.get(0).score;
            found = !matches.isEmpty() && !(best < needed);
            this.matches = found ? matches : Collections.<Index.Match>emptyList();
            this.needed = needed;
            this.bridgedFrom = bridgedFrom;
        }

        @Override
        public String toString() {
            return found ? matches.toString() : "nothing found (" + best + ", needed " + needed + ")";
        }
    }

    /** Loads all towers. */
    public static MobileCLIP load(BundleFiles bundle, Engine engine) {
        return load(bundle, engine, null);
    }

    /** Loads these towers: image, text. What does not fit is refused before a model is loaded. */
    public static MobileCLIP load(BundleFiles bundle, Engine engine, Collection<String> towers) {
        return new MobileCLIP(bundle, engine, towers);
    }

    private MobileCLIP(BundleFiles bundle, Engine engine, Collection<String> towers) {
        this.bundle = bundle;
        manifest = Manifest.parse(text("manifest.json"), engine.target());
        Collection<String> wanted = towers == null ? manifest.towers.keySet() : towers;
        for (String tower : wanted) manifest.checked(tower);
        if (wanted.contains("text")) {
            Object vocabulary = Json.parse(text("tokenizer/vocab.json"), "vocab.json");
            if (!(vocabulary instanceof Map)) throw Manifest.refused("vocab.json is no vocabulary: export the bundle again", null);
            tokenizer = new Tokenizer((Map<?, ?>) vocabulary, text("tokenizer/merges.txt"), manifest.text);
            if (manifest.relevance != null) relevance = new Relevance(manifest.relevance, manifest.dimension, read("relevance.safetensors"));
        }
        try {
            for (String tower : wanted) models.put(tower, open(engine, manifest.towers.get(tower).file));
        } catch (RuntimeException | Error failed) {
            close(); // those that were opened before
            throw failed;
        }
    }

    private Engine.Model open(Engine engine, String name) {
        try {
            return engine.open(bundle, name);
        } catch (MobileCLIPException told) {
            throw told;
        } catch (RuntimeException failed) {
            throw Manifest.refused(name + " cannot be loaded (" + failed.getMessage() + ")", failed);
        }
    }

    private byte[] read(String name) {
        try {
            return bundle.read(name);
        } catch (IOException unread) {
            throw Manifest.refused(name + " cannot be read (" + unread.getMessage() + "): is it a bundle?", unread);
        }
    }

    private String text(String name) {
        return new String(read(name), Charset.forName("UTF-8"));
    }

    /** Embeddings of spaces with other names cannot be compared. */
    public String embeddingSpace() {
        return manifest.embeddingSpace;
    }

    /** The side of the square that a picture is cut to, in pixels. */
    public int imageSize() {
        return manifest.preprocess.size;
    }

    /** The bundle's tokenizer, for an app that runs the text tower by itself. */
    public Tokenizer tokenizer() {
        model("text");
        return tokenizer;
    }

    /** A picture as the image tower takes it: [3, S, S] in [0, 1], for an app that runs it by itself. */
    public float[] prepare(Picture picture) {
        return Resize.prepare(picture, manifest.preprocess);
    }

    /** One embedding per text, each of length 1. */
    public List<Embedding.Text> embedTexts(List<String> texts) {
        model("text");
        List<Embedding.Text> found = new ArrayList<>();
        for (String text : texts) found.add(embedText(text));
        return found;
    }

    /** The embedding of a text, of length 1, which says what was cut from a text that is too long. */
    public Embedding.Text embedText(String text) {
        model("text");
        Tokenizer.Ids ids = tokenizer.ids(text);
        return new Embedding.Text(Vectors.unit(run("text", ids.ids)), embeddingSpace(), ids);
    }

    /** The embedding of an upright picture, of length 1. */
    public Embedding embedImage(Picture picture) {
        embedding();
        return new Embedding(Vectors.unit(run("image", prepare(picture))), embeddingSpace());
    }

    private void embedding() {
        model("image");
        if (manifest.classes == null) return;
        throw Manifest.refused("the bundle is a classifier, which gives probabilities: ask classify", null);
    }

    /** What a classifier ({@code export --labels}) says of an upright picture, the most probable first. */
    public List<Labels.Share> classify(Picture picture) {
        return Labels.ranked(manifest.classes, shares(picture));
    }

    /** The labels of an upright picture that are present, of a bundle of {@code export --examples}, the most probable first;
     * empty where none of them is. */
    public List<Labels.Share> tags(Picture picture) {
        if (manifest.ratios == null) {
            throw Manifest.refused("the bundle has no labels that were learned from pictures: export it with --examples", null);
        }
        return Labels.present(manifest.classes, manifest.ratios, manifest.share, shares(picture));
    }

    private double[] shares(Picture picture) {
        model("image");
        if (manifest.classes == null) {
            throw Manifest.refused("the bundle is no classifier: ask labels for labels, and those to classify", null);
        }
        float[] found = run("image", prepare(picture));
        double[] shares = new double[found.length];
        for (int index = 0; index < shares.length; index++) {
            shares[index] = found[index];
            if (!(found[index] >= 0)) throw Manifest.refused("the classifier gives what is no probability: do not use it here", null);
        }
        return shares;
    }

    /** The same for many, one after the other; {@code progress} may be null. */
    public List<Embedding> embedImages(Iterable<Picture> pictures, Progress progress) {
        List<Embedding> found = new ArrayList<>();
        for (Picture picture : pictures) {
            found.add(embedImage(picture));
            if (progress == null || progress.done(found.size())) continue;
            throw new MobileCLIPException(
                    MobileCLIPException.Code.CANCELLED, "cancelled after " + found.size() + " pictures");
        }
        return found;
    }

    /** The embedding of the image tower's own input: [3, S, S] with values in [0, 1]. Values outside are refused:
     * networks answer them plausibly and wrongly. */
    public Embedding embedPixels(float[] values) {
        embedding();
        int size = 3 * imageSize() * imageSize();
        String wrong = values.length == size ? null : values.length + " values, where the network takes " + size;
        for (float value : values) {
            if (!(value >= 0 && value <= 1)) wrong = "pixel values lie outside [0, 1]: divide bytes by 255";
        }
        if (wrong != null) throw new MobileCLIPException(MobileCLIPException.Code.RANGE, wrong);
        return new Embedding(Vectors.unit(run("image", values)), embeddingSpace());
    }

    /** Labels to classify pictures with, in the network's own prompt. */
    public Labels labels(List<String> names) {
        return labels(names, manifest.template);
    }

    /** {@code names}: two or more, with different prompts; {@code template}: with {} where the label goes. */
    public Labels labels(List<String> names, String template) {
        Query.checkLabels(names, template);
        model("text");
        List<String> prompts = new ArrayList<>();
        List<int[]> rows = new ArrayList<>();
        for (String name : names) {
            prompts.add(template.replace("{}", name));
            rows.add(tokenizer().ids(prompts.get(prompts.size() - 1)).ids);
        }
        Query.checkPrompts(names, rows);
        return new Labels(names, embedTexts(prompts), manifest);
    }

    /** The cosine that a match of a text needs in a library of {@code size} pictures; NaN where the bundle says none: it
     * was exported without --background. */
    public double needed(Embedding.Text text, int size) {
        text.check(embeddingSpace(), "the bundle");
        return relevance == null ? Double.NaN : relevance.needed(text.values, size);
    }

    /** What a text finds in an index: 10 at most. */
    public Answer search(Index index, String text) {
        return search(index, text, 10);
    }

    /** What a text finds in an index. */
    public Answer search(Index index, String text, int top) {
        Query.checkText(text);
        return search(index, embedText(text), top);
    }

    /** The {@code top} nearest of an index, or "nothing found" where the nearest is farther than what the query needs.
     * Pictures as queries, and an index of bits alone or of texts, are not judged. */
    public Answer search(Index index, Embedding query, int top) {
        boolean judged = query instanceof Embedding.Text && !index.store.equals("bits-only") && !"text".equals(index.tower);
        return new Answer(
                index.search(query, top), judged ? needed((Embedding.Text) query, index.length()) : Double.NaN, index.bridgedFrom);
    }

    /** {@code threshold}: minimum cosine of the best match, instead of the bundle's threshold; -1 shows everything. */
    public Answer search(Index index, Embedding query, int top, double threshold) {
        Query.checkThreshold(threshold);
        return new Answer(index.search(query, top), threshold, index.bridgedFrom);
    }

    /** The bundle's golden inputs through each loaded tower, against the checkpoint's answers; its golden texts through the
     * tokenizer, since a vocabulary of another checkpoint has the same form. */
    public List<TowerTest> selfTest() {
        Safetensors file = Safetensors.parse(read("golden.safetensors"), "golden.safetensors");
        Map<String, Safetensors.Tensor> golden = file.tensors;
        if (tokenizer != null && file.prompts != null) checkTokens(file.prompts, golden.get("ids"));
        List<TowerTest> found = new ArrayList<>();
        for (String tower : models.keySet()) {
            boolean image = tower.equals("image");
            Safetensors.Tensor inputs = golden.get(image ? "pixels" : "ids");
            String answered = manifest.classes == null ? tower + "_embeddings" : "image_probabilities";
            Safetensors.Tensor wanted = golden.get(answered);
            int count = inputs == null ? 0 : inputs.shape[0];
            if (count == 0 || wanted == null || !wanted.is("F32", count, width())) {
                throw Manifest.refused("golden.safetensors has no answers of the " + tower + " tower: export again", null);
            }
            float[][] answers = new float[count][];
            for (int row = 0; row < count; row++) answers[row] = run(tower, row(inputs, row, image));
            found.add(new TowerTest(tower, manifest.towers.get(tower).precision, answers, (float[]) wanted.data));
        }
        return found;
    }

    private void checkTokens(List<?> prompts, Safetensors.Tensor ids) {
        for (int row = 0; row < prompts.size(); row++) {
            boolean there = ids != null && ids.data instanceof int[] && row < ids.shape[0];
            if (there && Arrays.equals(tokenizer.ids(String.valueOf(prompts.get(row))).ids, (int[]) row(ids, row, false))) continue;
            throw Manifest.refused("tokenizer/ is not the checkpoint's: it gives other ids of the golden texts; export the bundle again", null);
        }
    }

    // One golden input; golden pixels are kept as bytes.
    private static Object row(Safetensors.Tensor inputs, int row, boolean image) {
        if (inputs.data instanceof float[]) {
            float[] all = (float[]) inputs.data;
            int size = all.length / inputs.shape[0];
            return Arrays.copyOfRange(all, row * size, (row + 1) * size);
        }
        int[] all = (int[]) inputs.data;
        int size = all.length / inputs.shape[0];
        int[] own = Arrays.copyOfRange(all, row * size, (row + 1) * size);
        if (!image) return own;
        float[] found = new float[size];
        for (int index = 0; index < size; index++) found[index] = own[index] / 255f;
        return found;
    }

    private synchronized float[] run(String name, Object values) {
        Manifest.Tower tower = manifest.towers.get(name);
        long[] shape = tower.shape.clone();
        shape[0] = 1;
        if (tower.dtype.equals("int64")) {
            int[] own = (int[]) values;
            long[] wide = new long[own.length];
            for (int index = 0; index < wide.length; index++) wide[index] = own[index];
            values = wide;
        }
        float[] found;
        Engine.Model model = model(name);
        try {
            found = model.run(tower.input, values, shape, tower.output);
        } catch (MobileCLIPException told) {
            throw told;
        } catch (RuntimeException failed) {
            throw Manifest.refused("the " + name + " tower failed (" + failed.getMessage() + ")", failed);
        }
        if (found.length == width()) return found;
        throw Manifest.refused("the " + name + " tower gives " + found.length + " numbers, and the manifest says "
                + width() + ": export the bundle again", null);
    }

    // Numbers that a tower gives.
    private int width() {
        return manifest.classes == null ? manifest.dimension : manifest.classes.size();
    }

    private Engine.Model model(String tower) {
        Engine.Model found = models.get(tower);
        if (found == null) throw Manifest.refused("the " + tower + " tower was not loaded: name it in `towers`", null);
        return found;
    }

    @Override
    public String toString() {
        return "MobileCLIP " + manifest + ", towers " + models.keySet();
    }

    /** Frees the towers. */
    @Override
    public synchronized void close() {
        for (Engine.Model model : models.values()) model.close();
        models.clear();
    }
}
