package mobileclip;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** What every client answers alike (clients/vectors), and a bundle: {@code Checks VECTORS [BUNDLE]}. The last line says
 * how many checks passed; the exit code is 1 where one failed. */
final class Checks {
    private static int passed;
    private static int failed;
    private final File vectors;
    private final BundleFiles bundle;

    private Checks(File vectors, BundleFiles bundle) {
        this.vectors = vectors;
        this.bundle = bundle;
    }

    public static void main(String[] given) throws Exception {
        Checks all = new Checks(new File(given[0]), BundleFiles.folder(new File(given[given.length - 1])));
        all.resize();
        all.pictures();
        all.search();
        all.relevance();
        all.tags();
        all.writing();
        all.gathering();
        all.hostile();
        all.refusals();
        all.manifests();
        all.locks();
        if (given.length > 1) {
            all.tokenizer();
            all.model();
            all.faults();
            all.vocabulary();
            all.otherKinds();
            all.changedBundle();
            if (System.getProperty("lock") != null) all.lockedBundle();
        }
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed > 0 || passed == 0 ? 1 : 0);
    }

    private static void check(String what, boolean right) {
        if (right) passed++;
        else failed++;
        if (!right) System.out.println("not ok " + what);
    }

    private static void refused(String what, MobileCLIPException.Code code, Runnable run) {
        try {
            run.run();
            check(what + ": nothing was refused", false);
        } catch (MobileCLIPException error) {
            check(what + ": " + error.code + ", not " + code, error.code == code && !error.getMessage().isEmpty());
        } catch (RuntimeException | AssertionError other) {
            check(what + ": " + other, false);
        }
    }

    // x becomes (1664525 x + 1013904223) mod 2^32, and gives its highest byte.
    static byte[] noise(int count, int seed) {
        byte[] found = new byte[count];
        for (int index = 0, x = seed; index < count; index++) {
            x = 1664525 * x + 1013904223;
            found[index] = (byte) (x >>> 24);
        }
        return found;
    }

    private Map<?, ?> json(String name) throws IOException {
        byte[] bytes = Files.readAllBytes(new File(vectors, name + ".json").toPath());
        return (Map<?, ?>) Json.parse(new String(bytes, StandardCharsets.UTF_8), name);
    }

    static List<Map<?, ?>> maps(Object list) {
        List<Map<?, ?>> found = new ArrayList<>();
        for (Object one : (List<?>) list) found.add((Map<?, ?>) one);
        return found;
    }

    static int whole(Map<?, ?> of, String name) {
        return ((Double) of.get(name)).intValue();
    }

    private static float[] floats(Object list) {
        List<?> all = (List<?>) list;
        float[] found = new float[all.size()];
        for (int index = 0; index < found.length; index++) found[index] = ((Double) all.get(index)).floatValue();
        return found;
    }

    private String text(String name) {
        try {
            return new String(bundle.read(name), StandardCharsets.UTF_8);
        } catch (IOException unread) {
            throw new java.io.UncheckedIOException(unread);
        }
    }

    private Tokenizer tokenizer(Map<?, ?> vocabulary, String merges) {
        return new Tokenizer(vocabulary, merges, Manifest.parse(text("manifest.json"), "onnx").text);
    }

    private void tokenizer() throws IOException {
        Map<?, ?> vocabulary = (Map<?, ?>) Json.parse(text("tokenizer/vocab.json"), "vocab.json");
        String merges = text("tokenizer/merges.txt");
        Tokenizer tokenizer = tokenizer(vocabulary, merges);
        List<Map<?, ?>> all = maps(json("tokenizer").get("vectors"));
        check("1,000 texts", all.size() == 1000);
        for (Map<?, ?> one : all) {
            float[] ids = floats(one.get("ids"));
            int[] wanted = new int[77];
            for (int index = 0; index < ids.length; index++) wanted[index] = (int) ids[index];
            check("ids of " + one.get("text"), Arrays.equals(tokenizer.ids((String) one.get("text")).ids, wanted));
        }
        int[] dog = tokenizer.ids("a photo of a dog").ids;
        check("merges of Windows", Arrays.equals(tokenizer(vocabulary, merges.replace("\n", "\r\n")).ids("a photo of a dog").ids, dog));
        Map<String, Object> other = Collections.singletonMap("a", 1.0);
        refused("a vocabulary of another checkpoint", MobileCLIPException.Code.BUNDLE, () -> tokenizer(other, merges).ids("dog"));
        refused("half of the merges", MobileCLIPException.Code.BUNDLE,
                () -> tokenizer(vocabulary, merges.substring(0, merges.length() / 2)));
        Tokenizer.Ids cut = tokenizer.ids("one " + String.join("", Collections.nCopies(80, "dog ")) + "Cat.");
        check("what was cut: " + cut.rest, cut.tokens == 85 && cut.rest.equals("dog dog dog dog dog dog cat."));
        check("nothing was cut", tokenizer.ids("a dog").rest.isEmpty());
    }

    private void resize() throws Exception {
        for (Map<?, ?> one : maps(json("resize").get("cases"))) {
            int width = whole(one, "width");
            int height = whole(one, "height");
            byte[] data = noise(width * height * whole(one, "channels"), whole(one, "seed"));
            Manifest.Preprocess how = new Manifest.Preprocess(new Manifest.Fields((Map<?, ?>) one.get("preprocess")));
            float[] planes = Resize.prepare(Picture.of(layout(data, width, height), data, width, height), how);
            check("pixels of " + one, sha256(bytes(planes)).equals(one.get("sha256")));
        }
    }

    private static Picture.Layout layout(byte[] data, int width, int height) {
        return data.length == 3 * width * height ? Picture.Layout.RGB : Picture.Layout.RGBA;
    }

    // [3, S, S] in [0, 1] -> the same order of bytes as the vectors have.
    static byte[] bytes(float[] planes) {
        byte[] found = new byte[planes.length];
        for (int index = 0; index < found.length; index++) found[index] = (byte) Math.round(255 * planes[index]);
        return found;
    }

    static String sha256(byte[] bytes) throws Exception {
        StringBuilder found = new StringBuilder();
        for (byte one : MessageDigest.getInstance("SHA-256").digest(bytes)) found.append(String.format("%02x", one));
        return found.toString();
    }

    private void pictures() throws Exception {
        for (Map<?, ?> one : maps(json("pictures").get("cases"))) {
            Picture.Layout layout = Picture.Layout.valueOf(((String) one.get("layout")).toUpperCase());
            int width = whole(one, "width");
            int height = whole(one, "height");
            String colour = one.get("matrix") == null ? "bt601_full" : one.get("matrix") + "_" + one.get("range");
            byte[] stored = noise((int) layout.bytes(width, height), whole(one, "seed"));
            Picture found = Picture.of(layout, stored, width, height, Picture.Colour.valueOf(colour.toUpperCase()))
                    .upright(whole(one, "orientation"));
            check("colours of " + one, sha256(found.rgb).equals(one.get("sha256")));
        }
        for (Map<?, ?> one : maps(json("pictures").get("refused"))) {
            refused((String) one.get("what"), MobileCLIPException.Code.PICTURE, () ->
                    Picture.of(Picture.Layout.RGB, new byte[whole(one, "bytes")], whole(one, "width"), whole(one, "height")));
        }
        byte[] data = noise(4 * 5 * 3, 7);
        int[] pixels = new int[15];
        for (int index = 0; index < 15; index++) {
            pixels[index] = (data[4 * index + 3] & 255) << 24 | (data[4 * index] & 255) << 16 | (data[4 * index + 1] & 255) << 8
                    | data[4 * index + 2] & 255;
        }
        check("a Bitmap's pixels", Arrays.equals(Picture.argb(pixels, 5, 3).rgb, Picture.of(Picture.Layout.RGBA, data, 5, 3).rgb));
        refused("too few pixels", MobileCLIPException.Code.PICTURE, () -> Picture.argb(new int[7], 2, 2));
        refused("no side", MobileCLIPException.Code.PICTURE, () -> Picture.argb(new int[0], 0, 2));
    }

    private void search() throws Exception {
        Map<?, ?> all = json("search");
        String space = (String) all.get("embedding_space");
        for (Map<?, ?> one : maps(all.get("cases"))) {
            byte[] bytes = Base64.getDecoder().decode((String) one.get("index"));
            File file = temporary();
            Files.write(file.toPath(), bytes);
            Index index = Index.open(file);
            check("pictures of " + one.get("store"), index.length() == whole(one, "length") && index.store.equals(one.get("store")));
            for (Map<?, ?> asked : maps(one.get("queries"))) {
                List<Index.Match> found = index.search(new Embedding(floats(asked.get("query")), space), whole(one, "top"));
                List<Map<?, ?>> wanted = maps(asked.get("found"));
                boolean same = found.size() == wanted.size();
                for (int place = 0; same && place < found.size(); place++) {
                    Index.Match match = found.get(place);
                    same = match.id.equals(wanted.get(place).get("id")) && match.row == whole(wanted.get(place), "row")
                            && Math.abs(match.score - (Double) wanted.get(place).get("score")) < 1e-6;
                }
                check("matches of " + one.get("store"), same);
            }
            float[] query = floats(maps(one.get("queries")).get(0).get("query"));
            refused("another space", MobileCLIPException.Code.SPACE, () -> index.search(new Embedding(query, "another"), 3));
            refused("another length", MobileCLIPException.Code.SPACE,
                    () -> index.search(new Embedding(Arrays.copyOf(query, 39), space), 3));
            refused("zeros", MobileCLIPException.Code.QUERY, () -> index.search(new Embedding(new float[40], space), 3));
            query[3] = Float.NaN;
            refused("NaN", MobileCLIPException.Code.QUERY, () -> index.search(new Embedding(query, space), 3));
            refused("no match is asked for", MobileCLIPException.Code.QUERY,
                    () -> index.search(new Embedding(floats(maps(one.get("queries")).get(0).get("query")), space), 0));
            // Windows of 64 bytes and the overlap: a window ends in the middle of everything.
            Index parted = new Index(Bytes.of(ByteBuffer.wrap(bytes), 6));
            Embedding asked = new Embedding(floats(maps(one.get("queries")).get(1).get("query")), space);
            List<Index.Match> whole = index.search(asked, 8);
            List<Index.Match> parts = parted.search(asked, 8);
            for (int place = 0; place < 8; place++) {
                Index.Match match = parts.get(place);
                check("a file of several windows", match.id.equals(whole.get(place).id) && match.score == whole.get(place).score);
            }
        }
        for (Map<?, ?> one : maps(all.get("refused"))) {
            byte[] bytes = Base64.getDecoder().decode((String) one.get("index"));
            refused((String) one.get("what"), code(one), () -> Index.open(ByteBuffer.wrap(bytes)));
        }
        for (int width : new int[] {1, 7, 8, 9, 40, 100, 512, 65536}) products(width);
    }

    private static File temporary() throws IOException {
        File file = File.createTempFile("library", ".mcdx");
        file.deleteOnExit();
        return file;
    }

    private void writing() throws Exception {
        String told = (String) maps(json("manifests").get("cases")).get(0).get("manifest");
        Manifest manifest = Manifest.parse(told, "onnx");
        File file = temporary();
        List<String> ids = new ArrayList<>();
        List<Embedding> embeddings = new ArrayList<>();
        for (int row = 0; row < 50; row++) {
            ids.add(row == 7 ? "\u041a\u043e\u0442 \ud83d\udc08.png" : "IMG_" + row + ".jpg");
            embeddings.add(new Embedding(noised(manifest.dimension, row), manifest.embeddingSpace));
        }
        try (IndexWriter writer = IndexWriter.create(file, manifest)) {
            writer.add(ids.subList(0, 30), embeddings.subList(0, 30));
            check("nothing before the commit", Index.open(file).length() == 0);
            refused("a new index in place of one that is being written", MobileCLIPException.Code.INDEX, () -> IndexWriter.create(file, manifest));
            check("the lock file", lockOf(file).exists());
            writer.commit();
            refused("an id twice", MobileCLIPException.Code.INDEX, () -> writer.add(ids.subList(3, 4), embeddings.subList(3, 4)));
            refused("an embedding of another space", MobileCLIPException.Code.SPACE,
                    () -> writer.add(Collections.singletonList("x"), Collections.singletonList(new Embedding(new float[128], "t"))));
            refused("a row that is not there", MobileCLIPException.Code.INDEX, () -> writer.remove(30));
            refused("two writers", MobileCLIPException.Code.INDEX, () -> IndexWriter.open(file));
        }
        check("the lock file goes with its writer", !lockOf(file).exists());
        try (java.io.FileOutputStream more = new java.io.FileOutputStream(file, true)) {
            more.write(new byte[] {1, 2, 3}); // of a writer that was killed
        }
        try (IndexWriter writer = IndexWriter.open(file)) {
            writer.remove(4);
            writer.commit();
            writer.add(ids.subList(30, 50), embeddings.subList(30, 50));
            writer.add(ids.subList(4, 5), embeddings.subList(4, 5));
            writer.commit();
        }
        Index index = Index.open(file);
        check("50 pictures", index.length() == 50);
        for (int row = 0; row < 50; row++) {
            Index.Match best = index.search(embeddings.get(row), 1).get(0);
            check("its own nearest " + best.score, best.id.equals(ids.get(row)) && best.score > 0.98);
        }
        if (System.getProperty("written") != null) Files.copy(file.toPath(), new File(System.getProperty("written")).toPath());
        // A writer that is killed while it writes a slot damages that slot alone: the library is as it was before.
        byte[] ofPython = Base64.getDecoder().decode((String) maps(json("search").get("cases")).get(0).get("index"));
        Files.write(file.toPath(), ofPython);
        int before = Index.open(file).length();
        for (int commit = 1; commit <= 2; commit++) {
            try (IndexWriter writer = IndexWriter.open(file)) {
                writer.remove(commit);
                writer.commit();
            }
            byte[] now = Files.readAllBytes(file.toPath());
            Index newest = Index.open(ByteBuffer.wrap(now));
            check("a commit to Python's library", newest.length() == before - commit);
            Arrays.fill(now, newest.slot, newest.slot + 32, (byte) 0);
            check("a slot that was half written", Index.open(ByteBuffer.wrap(now)).length() == before - commit + 1);
        }
        byte[] bits = Base64.getDecoder().decode((String) maps(json("search").get("cases")).get(4).get("index"));
        Files.write(file.toPath(), bits);
        refused("an index of another store", MobileCLIPException.Code.INDEX, () -> IndexWriter.open(file));
        refused("an index that is not there", MobileCLIPException.Code.INDEX, () -> IndexWriter.open(new File(file.getPath() + ".none")));
        refused("a folder that is not there", MobileCLIPException.Code.INDEX,
                () -> IndexWriter.create(new File(file.getPath() + ".none", "library.mcdx"), manifest));
        refused("a file that is not there", MobileCLIPException.Code.INDEX, () -> Index.open(new File(file.getPath() + ".none")));
    }

    private static File lockOf(File file) {
        return new File(file.getParentFile(), "." + file.getName() + ".partial.lock");
    }

    private void gathering() throws Exception {
        Manifest manifest = Manifest.parse((String) maps(json("manifests").get("cases")).get(0).get("manifest"), "onnx");
        File file = temporary();
        List<String> ids = new ArrayList<>();
        try (IndexWriter writer = IndexWriter.create(file, manifest)) {
            for (int row = 0; row < 500; row++) {
                ids.add("" + row);
                writer.add(ids.subList(row, row + 1), one(manifest, row), new long[] {row});
            }
            writer.remove(Arrays.asList("7", "none"));
            writer.add(Collections.singletonList("7"), one(manifest, 7), new long[] {-1});
            check("what a writer knows", writer.contains("7") && !writer.contains("none") && writer.ids().size() == 500);
            writer.commit();
            Index index = Index.open(file);
            check("one block", index.blockCount() == 1 && index.length() == 500 && index.row("7") == 500 && index.stamp(500) == -1);
            for (int row = 0; row < 30; row++) { // each alone, as an app may do it
                writer.remove(Collections.singletonList("" + row));
                writer.add(Collections.singletonList(row + ".jpg"), one(manifest, row));
                writer.commit();
            }
            Index many = Index.open(file);
            List<Index.Match> before = many.search(one(manifest, 12).get(0), 5);
            check("rows that went", many.blockCount() == 31 && writer.compact() == 31 && writer.compact() == 0);
            Index compacted = Index.open(file);
            check("a compacted index", compacted.blockCount() == 1 && compacted.rowCount() == 500 && compacted.ids().equals(many.ids()));
            List<Index.Match> after = compacted.search(one(manifest, 12).get(0), 5);
            for (int place = 0; place < 5; place++) {
                Index.Match match = before.get(place);
                check("the same matches", match.id.equals(after.get(place).id) && match.score == after.get(place).score);
            }
            for (int row : many.rows()) check("stamps", many.stamp(row) == compacted.stamp(compacted.row(many.id(row))));
            refused("ids without embeddings", MobileCLIPException.Code.QUERY, () -> writer.add(ids, one(manifest, 1)));
            refused("two writers after compacting", MobileCLIPException.Code.INDEX, () -> IndexWriter.open(file));
            writer.add(Collections.singletonList("new"), one(manifest, 600));
            writer.commit();
        }
        check("after compacting", Index.open(file).contains("new") && file.getParentFile().list((place, name) -> name.endsWith(".mcdx.new")).length == 0);
    }

    private static List<Embedding> one(Manifest manifest, int seed) {
        return Collections.singletonList(new Embedding(noised(manifest.dimension, seed), manifest.embeddingSpace));
    }

    private void hostile() throws Exception {
        Map<?, ?> all = json("hostile");
        for (Map<?, ?> one : maps(all.get("indices"))) {
            byte[] bytes = Base64.getDecoder().decode((String) one.get("index"));
            refused((String) one.get("what"), code(one), () -> Index.open(ByteBuffer.wrap(bytes)));
        }
        for (Map<?, ?> one : maps(all.get("unsearchable"))) {
            byte[] bytes = Base64.getDecoder().decode((String) one.get("index"));
            Embedding query = new Embedding(new float[] {1, 0, 0, 0, 0, 0, 0, 0}, "s");
            refused((String) one.get("what"), code(one), () -> Index.open(ByteBuffer.wrap(bytes)).search(query, 2));
        }
        for (Map<?, ?> one : maps(all.get("tensors"))) {
            byte[] bytes = Base64.getDecoder().decode((String) one.get("file"));
            refused((String) one.get("what"), code(one), () -> Safetensors.parse(bytes, "golden.safetensors"));
        }
        for (Map<?, ?> one : maps(all.get("holds"))) {
            Index index = Index.open(ByteBuffer.wrap(Base64.getDecoder().decode((String) one.get("index"))));
            List<?> rows = (List<?>) one.get("rows");
            check("ids of " + one.get("what"), index.ids().equals(one.get("ids")) && index.length() == rows.size());
            for (int place = 0; place < rows.size(); place++) {
                int row = index.rows()[place];
                double stamp = Double.parseDouble(Long.toUnsignedString(index.stamp(row)));
                check("a row of " + one.get("what"), rows.get(place).equals((double) row) && index.row(index.id(row)) == row
                        && ((List<?>) one.get("stamps")).get(place).equals(stamp));
            }
            check("an id that is not there", !index.contains("none") && index.row("none") == -1);
            for (int row : new int[] {-1, index.rowCount()}) {
                refused("a row that is not there", MobileCLIPException.Code.INDEX, () -> index.id(row));
                refused("a row that is not there", MobileCLIPException.Code.INDEX, () -> index.stamp(row));
            }
        }
    }

    private void refusals() throws Exception {
        Map<?, ?> all = json("refusals");
        for (Map<?, ?> one : maps(all.get("labels"))) {
            List<String> names = new ArrayList<>();
            for (Object name : (List<?>) one.get("names")) names.add((String) name);
            refused((String) one.get("what"), code(all), () -> Query.checkLabels(names, (String) one.get("template")));
        }
        MobileCLIP model = bundle.file("manifest.json").exists() ? MobileCLIP.load(bundle, replay(bundle)) : null;
        Index index = Index.open(ByteBuffer.wrap(Base64.getDecoder().decode((String) maps(json("hostile").get("holds")).get(1).get("index"))));
        Embedding query = new Embedding(new float[] {1, 0, 0, 0, 0, 0, 0, 0}, "s");
        for (Map<?, ?> one : maps(all.get("search"))) {
            String text = (String) one.get("text");
            Object told = one.get("threshold");
            double threshold = told instanceof Double ? (Double) told
                    : told == null ? 0 : Double.parseDouble(((String) told).replace("nan", "NaN").replace("inf", "Inf"));
            refused((String) one.get("what"), code(all), () -> {
                Query.checkText(text);
                Query.checkThreshold(threshold);
                index.search(query, whole(one, "top"));
            });
            if (model == null) continue;
            if (text.trim().isEmpty()) refused("a search for it", code(all), () -> model.search(index, text));
            else if (told != null) refused("a search by it", code(all), () -> model.search(index, query, 3, threshold));
        }
        if (model == null) return;
        refused("labels without a place", code(all), () -> model.labels(Arrays.asList("a", "b"), "a photo"));
        for (Map<?, ?> one : maps(all.get("prompts"))) {
            List<String> names = new ArrayList<>();
            for (Object name : (List<?>) one.get("names")) names.add((String) name);
            refused((String) one.get("what"), code(all), () -> model.labels(names, (String) one.get("template")));
        }
    }

    private static float[] noised(int width, int seed) {
        float[] found = new float[width];
        byte[] made = noise(width, seed);
        for (int index = 0; index < width; index++) found[index] = made[index];
        return found;
    }

    private void tags() throws Exception {
        int number = 0;
        for (Object one : (List<?>) json("tags").get("cases")) {
            Map<?, ?> found = (Map<?, ?>) one;
            float[] shares = floats(found.get("probabilities"));
            double[] wide = new double[shares.length];
            for (int index = 0; index < wide.length; index++) wide[index] = shares[index];
            List<?> ratios = (List<?>) found.get("ratios");
            double[] least = new double[ratios.size()];
            for (int index = 0; index < least.length; index++) least[index] = ((Number) ratios.get(index)).doubleValue();
            String present = Labels.present(least, ((Number) found.get("share")).doubleValue(), wide).toString();
            StringBuilder wanted = new StringBuilder();
            for (Object label : (List<?>) found.get("present")) wanted.append(wanted.length() > 0 ? ", " : "").append(((Number) label).intValue());
            check("the labels that are present, case " + number++, present.equals("[" + wanted + "]"));
        }
        Map<?, ?> learned = (Map<?, ?>) json("tags").get("learned");
        LearnedLabels labels = LearnedLabels.open(decoded(learned));
        String space = (String) learned.get("embedding_space");
        check("the labels of a file", labels.names.equals(learned.get("labels")) && labels.embeddingSpace.equals(space));
        for (Map<?, ?> one : maps(learned.get("embeddings"))) {
            Embedding embedding = new Embedding(floats(one.get("values")), space);
            List<String> present = new ArrayList<>();
            for (Labels.Share tag : labels.tags(embedding)) present.add(tag.label);
            check("the labels of a file that are present", present.equals(one.get("present")));
            for (Labels.Share share : labels.classify(embedding)) {
                double wanted = (Double) ((Map<?, ?>) one.get("probabilities")).get(share.label);
                check("the probability of " + share.label, Math.abs(share.probability - wanted) < 1e-6);
            }
        }
        refused("another space", MobileCLIPException.Code.SPACE, () -> labels.tags(new Embedding(new float[6], "another")));
        refused("another width", MobileCLIPException.Code.SPACE, () -> labels.tags(new Embedding(new float[5], space)));
        for (Map<?, ?> one : maps(json("tags").get("refused"))) {
            refused((String) one.get("what"), code(one), () -> LearnedLabels.open(decoded(one)));
        }
    }

    private static byte[] decoded(Map<?, ?> holder) {
        return Base64.getDecoder().decode((String) holder.get("file"));
    }

    private void relevance() throws Exception {
        Map<?, ?> all = json("relevance");
        Map<?, ?> numbers = (Map<?, ?>) all.get("manifest");
        byte[] file = decoded(all);
        Relevance found = new Relevance(numbers, 40, file);
        for (Object size : ((Map<?, ?>) all.get("needed")).keySet()) {
            List<?> wanted = (List<?>) ((Map<?, ?>) all.get("needed")).get(size);
            for (int index = 0; index < wanted.size(); index++) {
                double needed = found.needed(floats(((List<?>) all.get("queries")).get(index)), Integer.parseInt((String) size));
                check("what query " + index + " needs among " + size, Math.abs(needed - (Double) wanted.get(index)) < 1e-6);
            }
        }
        refused("another size", MobileCLIPException.Code.BUNDLE, () -> new Relevance(numbers, 41, file));
        refused("half of it", MobileCLIPException.Code.BUNDLE, () -> new Relevance(numbers, 40, Arrays.copyOf(file, 7000)));
    }

    // Sums of products against plain ones, the extremes too.
    private static void products(int width) {
        for (int seed = 0; seed < 4; seed++) {
            byte[] row = noise(width, seed);
            float[] vector = new float[width];
            byte[] query = noise(width, seed + 100);
            for (int index = 0; index < width; index++) vector[index] = Math.max(-127, query[index]);
            vector[width - 1] = 127;
            if (seed == 0) Arrays.fill(row, (byte) -127);
            if (seed == 0) Arrays.fill(vector, -127);
            if (seed == 1) Arrays.fill(row, (byte) 127);
            int wanted = 0;
            for (int index = 0; index < width; index++) wanted += row[index] * (int) vector[index];
            ByteBuffer rows = ByteBuffer.wrap(row).order(java.nio.ByteOrder.LITTLE_ENDIAN);
            check("products of " + width, new Scores.Query(vector).integers(rows, 0) == wanted);
        }
    }

    /** A bundle with one file changed. */
    private static BundleFiles changed(BundleFiles whole, String name, byte[] content) {
        return new BundleFiles() {
            @Override
            public byte[] read(String file) throws IOException {
                return file.equals(name) ? content : whole.read(file);
            }

            @Override
            public File file(String file) {
                return whole.file(file);
            }
        };
    }


    private static final Engine NONE = new Engine() {
        @Override
        public String target() {
            return "onnx";
        }

        @Override
        public Model open(BundleFiles bundle, String name) {
            throw new AssertionError("a model was loaded");
        }
    };

    private void manifests() throws IOException {
        for (Map<?, ?> one : maps(json("manifests").get("cases"))) {
            String what = (String) one.get("what");
            BundleFiles given = changed(bundle, "manifest.json", ((String) one.get("manifest")).getBytes(StandardCharsets.UTF_8));
            if (one.get("code") == null) told(what, Manifest.parse((String) one.get("manifest"), (String) one.get("target")), one);
            else refused(what, code(one), () -> MobileCLIP.load(given, NONE));
        }
        for (Map<?, ?> one : maps(json("manifests").get("cases"))) {
            if (one.get("target").equals("onnx")) continue;
            refused("another target", MobileCLIPException.Code.BUNDLE, () -> Manifest.parse((String) one.get("manifest"), "onnx"));
        }
        refused("no bundle", MobileCLIPException.Code.BUNDLE, () -> MobileCLIP.load(BundleFiles.folder(vectors), NONE));
    }

    private void locks() throws IOException {
        Map<?, ?> told = json("locks");
        Map<?, ?> texts = (Map<?, ?>) told.get("files");
        File folder = Files.createTempDirectory("lock").toFile();
        folder.deleteOnExit();
        for (Map.Entry<?, ?> one : texts.entrySet()) {
            File file = new File(folder, (String) one.getKey());
            file.getParentFile().mkdirs();
            if (!file.getParentFile().equals(folder)) file.getParentFile().deleteOnExit();
            file.deleteOnExit();
            Files.write(file.toPath(), ((String) one.getValue()).getBytes(StandardCharsets.UTF_8));
        }
        BundleFiles files = BundleFiles.folder(folder);
        BundleFiles assets = new BundleFiles() { // of an app, which have no files
            @Override
            public byte[] read(String name) throws IOException {
                return files.read(name);
            }

            @Override
            public File file(String name) {
                return null;
            }
        };
        for (Map<?, ?> one : maps(told.get("cases"))) {
            String lock = written(one.get("lock"));
            for (BundleFiles given : Arrays.asList(files, assets)) {
                for (boolean reads : new boolean[] {true, false}) {
                    Runnable opening = () -> opened(BundleFiles.locked(given, lock), texts, reads || given == assets);
                    if (one.get("code") != null) refused("a lock: " + one.get("what"), code(one), opening);
                    else opening.run();
                }
            }
        }
        String right = written(maps(told.get("cases")).get(0).get("lock"));
        MobileCLIPException.Code code = MobileCLIPException.Code.BUNDLE;
        refused("a lock that is no JSON", code, () -> BundleFiles.locked(files, right.substring(1)));
        refused("a lock with a key twice", code, () -> BundleFiles.locked(files, "{\"commit\": \"\", " + right.substring(1)));
        refused("a bundle of another lock", code, () -> MobileCLIP.load(BundleFiles.locked(bundle, right), NONE));
        check("assets stay assets", BundleFiles.locked(assets, right).file("onnx/model.onnx") == null);
    }

    /** Each file of a published bundle that is opened is held to the lock that `publish` wrote. */
    private void lockedBundle() throws Exception {
        String json = new String(Files.readAllBytes(new File(System.getProperty("lock")).toPath()), StandardCharsets.UTF_8);
        Map<?, ?> lock = (Map<?, ?>) Json.parse(json, "the lock");
        @SuppressWarnings("unchecked")
        Map<String, Object> files = (Map<String, Object>) lock.get("files");
        // As ONNX Runtime's engine does, it opens the tower's file.
        Engine engine = new Engine() {
            @Override
            public String target() {
                return "onnx";
            }

            @Override
            public Model open(BundleFiles given, String name) {
                check("a locked tower", given.file(name).isFile());
                return replay(given).open(given, name);
            }
        };
        for (TowerTest test : MobileCLIP.load(BundleFiles.locked(bundle, json), engine).selfTest()) check("a locked bundle", test.passed);
        Manifest manifest = MobileCLIP.load(bundle, engine).manifest;
        for (String name : Arrays.asList("manifest.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
                manifest.towers.get("image").file, manifest.towers.get("text").file, "golden.safetensors")) {
            Object right = files.put(name, Collections.singletonMap("sha256", String.format("%064d", 0)));
            check("it has " + name, right != null);
            refused("a bundle with another " + name, MobileCLIPException.Code.BUNDLE,
                    () -> MobileCLIP.load(BundleFiles.locked(bundle, written(lock)), engine).selfTest());
            files.put(name, right);
        }
    }

    private static void opened(BundleFiles bundle, Map<?, ?> texts, boolean reads) {
        for (Map.Entry<?, ?> one : texts.entrySet()) {
            String name = (String) one.getKey();
            try {
                byte[] bytes = reads ? bundle.read(name) : Files.readAllBytes(bundle.file(name).toPath());
                check("a locked file", new String(bytes, StandardCharsets.UTF_8).equals(one.getValue()));
            } catch (IOException unread) {
                throw new java.io.UncheckedIOException(unread);
            }
        }
    }

    /** A value as JSON. */
    private static String written(Object value) {
        List<String> parts = new ArrayList<>();
        if (value instanceof Map) {
            for (Map.Entry<?, ?> one : ((Map<?, ?>) value).entrySet()) {
                parts.add(Json.quoted((String) one.getKey()) + ": " + written(one.getValue()));
            }
            return "{" + String.join(", ", parts) + "}";
        }
        if (!(value instanceof List)) return value instanceof String ? Json.quoted((String) value) : String.valueOf(value);
        for (Object one : (List<?>) value) parts.add(written(one));
        return "[" + String.join(", ", parts) + "]";
    }

    private static void told(String what, Manifest read, Map<?, ?> one) {
        Map<?, ?> wanted = (Map<?, ?>) one.get("found");
        boolean same = read.embeddingSpace.equals(wanted.get("embedding_space")) && read.dimension == whole(wanted, "embed_dim")
                && wanted.get("logit_scale").equals(read.logitScale) && read.template.equals(wanted.get("template"))
                && read.preprocess.size == whole(wanted, "image_size") && new ArrayList<>(read.towers.keySet()).equals(wanted.get("towers"))
                && (read.text == null ? 0 : read.text.contextLength) == whole(wanted, "context_length");
        check("the manifest of " + what, same);
        if (one.get("target").equals("onnx")) for (String tower : read.towers.keySet()) read.checked(tower);
    }

    private static MobileCLIPException.Code code(Map<?, ?> one) {
        return MobileCLIPException.Code.valueOf(((String) one.get("code")).toUpperCase());
    }

    /** Answers golden inputs with the checkpoint's answers, and others with what depends on their numbers. */
    static Engine replay(BundleFiles bundle) {
        return new Engine() {
            @Override
            public String target() {
                return "onnx";
            }

            @Override
            public Model open(BundleFiles bundle, String name) {
                Map<String, Safetensors.Tensor> golden;
                try {
                    golden = Safetensors.parse(bundle.read("golden.safetensors"), "golden.safetensors").tensors;
                } catch (IOException unread) {
                    throw new java.io.UncheckedIOException(unread);
                }
                return new Replay(golden);
            }
        };
    }

    private static final class Replay implements Engine.Model {
        private final Map<String, Safetensors.Tensor> golden;

        Replay(Map<String, Safetensors.Tensor> golden) {
            this.golden = golden;
        }

        @Override
        public float[] run(String input, Object values, long[] shape, String output) {
            boolean image = values instanceof float[];
            int[] given;
            if (image) {
                byte[] bytes = bytes((float[]) values);
                given = new int[bytes.length];
                for (int index = 0; index < given.length; index++) given[index] = bytes[index] & 255;
            } else {
                long[] own = (long[]) values;
                given = new int[own.length];
                for (int index = 0; index < given.length; index++) given[index] = (int) own[index];
            }
            int[] inputs = (int[]) golden.get(image ? "pixels" : "ids").data;
            Safetensors.Tensor answers = golden.get(image ? "image_embeddings" : "text_embeddings");
            int width = answers.shape[1];
            for (int row = 0; row < answers.shape[0]; row++) {
                int[] own = Arrays.copyOfRange(inputs, row * given.length, (row + 1) * given.length);
                if (Arrays.equals(own, given)) return Arrays.copyOfRange((float[]) answers.data, row * width, (row + 1) * width);
            }
            float[] found = new float[width];
            byte[] made = noise(width, Arrays.hashCode(given));
            for (int index = 0; index < width; index++) found[index] = made[index];
            return found;
        }

        @Override
        public void close() {}
    }

    private void model() {
        MobileCLIP model = MobileCLIP.load(bundle, replay(bundle));
        for (TowerTest test : model.selfTest()) check(test.tower + " by its golden answers", test.passed && test.relative == 0 && test.inputs >= 16);
        check("both towers", model.selfTest().size() == 2);
        List<Embedding.Text> texts = model.embedTexts(Arrays.asList("a dog", String.join("", Collections.nCopies(100, "dog "))));
        check("what is cut", !texts.get(0).cut && texts.get(1).cut && texts.get(1).tokens == 102);
        List<String> names = Arrays.asList("pizza", "a red car", "costs $& more");
        Labels labels = model.labels(names);
        int size = model.imageSize();
        Picture picture = Picture.of(Picture.Layout.RGB, noise(3 * size * size, 3), size, size);
        List<Labels.Share> shares = labels.classify(model.embedImage(picture));
        double sum = 0;
        for (Labels.Share share : shares) sum += share.probability;
        check("probabilities", shares.size() == 3 && Math.abs(sum - 1) < 1e-6 && shares.get(0).probability >= shares.get(1).probability);
        refused("labels of another space", MobileCLIPException.Code.SPACE, () -> labels.classify(new Embedding(new float[128], "another")));
        List<Picture> many = Arrays.asList(picture, picture, picture, picture);
        List<Integer> seen = new ArrayList<>();
        refused("cancelled", MobileCLIPException.Code.CANCELLED, () -> model.embedImages(many, done -> seen.add(done) && done < 2));
        check("progress", seen.equals(Arrays.asList(1, 2)));
        check("the same alone and among many",
                Arrays.equals(model.embedImages(many, null).get(3).values, model.embedImage(picture).values));
        float[] values = new float[3 * size * size];
        Arrays.fill(values, 0.5f);
        check("pixels", model.embedPixels(values).values.length == model.manifest.dimension);
        refused("too few values", MobileCLIPException.Code.RANGE, () -> model.embedPixels(new float[7]));
        for (float wrong : new float[] {1.1f, -0.1f, Float.NaN}) {
            float[] own = values.clone();
            own[5] = wrong;
            refused("values outside of 0 to 1", MobileCLIPException.Code.RANGE, () -> model.embedPixels(own));
        }
        refused("a tower that is none", MobileCLIPException.Code.BUNDLE,
                () -> MobileCLIP.load(bundle, NONE, Collections.singletonList("sound")));
        MobileCLIP image = MobileCLIP.load(bundle, replay(bundle), Collections.singletonList("image"));
        refused("a tower that was not loaded", MobileCLIPException.Code.BUNDLE, () -> image.embedText("a dog"));
        check("no background", Double.isNaN(model.needed(texts.get(0), 100)) == (model.manifest.relevance == null));
    }

    // A library whose bundle changed: it is read, searched by its own bundle, and refused by the new one.
    private void changedBundle() throws Exception {
        MobileCLIP old = MobileCLIP.load(bundle, replay(bundle));
        Picture picture = Picture.of(Picture.Layout.RGB, noise(3 * 90 * 80, 5), 90, 80);
        File file = temporary();
        List<String> ids = Collections.singletonList("a");
        try (IndexWriter writer = IndexWriter.create(file, old.manifest)) {
            writer.add(ids, Collections.singletonList(old.embedImage(picture)));
            writer.commit();
        }
        Index library = Index.open(file);
        check("a library of its own bundle", old.search(library, old.embedImage(picture), 1).matches.get(0).id.equals("a"));
        check("a text in it", old.search(library, old.embedText("a dog"), 1, -1).matches.size() == 1);
        String told = text("manifest.json").replace(old.embeddingSpace(), "nano-another");
        MobileCLIP changed = MobileCLIP.load(changed(bundle, "manifest.json", told.getBytes(StandardCharsets.UTF_8)), replayOf(bundle));
        refused("a library whose bundle changed", MobileCLIPException.Code.SPACE, () -> changed.search(library, "a dog", 1));
        try (IndexWriter writer = IndexWriter.open(file)) {
            refused("pictures of the new bundle in the old library", MobileCLIPException.Code.SPACE,
                    () -> writer.add(Collections.singletonList("b"), Collections.singletonList(changed.embedImage(picture))));
        }
    }

    private void otherKinds() {
        String told = text("manifest.json").replaceFirst("\"sot\": *\\d+", "\"kind\": \"sentencepiece\", \"sot\": null");
        BundleFiles other = changed(bundle, "manifest.json", told.getBytes(StandardCharsets.UTF_8));
        refused("a tokenizer that is not known", MobileCLIPException.Code.BUNDLE, () -> MobileCLIP.load(other, NONE));
        Picture picture = Picture.of(Picture.Layout.RGB, noise(3 * 90 * 80, 5), 90, 80);
        MobileCLIP model = MobileCLIP.load(bundle, replay(bundle));
        float[] alone = MobileCLIP.load(other, replayOf(bundle), Collections.singletonList("image")).embedImage(picture).values;
        check("the image tower alone", Arrays.equals(alone, model.embedImage(picture).values));
        String biased = text("manifest.json").replaceFirst("\"logit_scale\"", "\"logit_bias\": -7.5, \"logit_scale\"");
        MobileCLIP each = MobileCLIP.load(changed(bundle, "manifest.json", biased.getBytes(StandardCharsets.UTF_8)), replayOf(bundle));
        double cosine = Vectors.dot(each.embedText("a dog").values, each.embedImage(picture).values);
        double wanted = 1 / (1 + Math.exp(7.5 - model.manifest.logitScale * cosine));
        for (Labels.Share share : each.labels(Arrays.asList("a dog", "a cat"), "{}").classify(each.embedImage(picture))) {
            if (share.label.equals("a dog")) check("a network that judges each label alone", Math.abs(share.probability - wanted) < 1e-12);
        }
    }

    private void vocabulary() throws Exception {
        // As many words as before, and of the same form: only the golden texts show it.
        String exchanged = text("tokenizer/vocab.json").replace("\"photo</w>\"", "\"kept</w></w>\"").replace("\"dog</w>\"", "\"photo</w>\"")
                .replace("\"kept</w></w>\"", "\"dog</w>\"");
        check("two words exchanged", !exchanged.equals(text("tokenizer/vocab.json")));
        BundleFiles other = changed(bundle, "tokenizer/vocab.json", exchanged.getBytes(StandardCharsets.UTF_8));
        MobileCLIP model = MobileCLIP.load(other, replayOf(bundle));
        refused("a vocabulary of another checkpoint in its self-test", MobileCLIPException.Code.BUNDLE, model::selfTest);
    }

    private void faults() throws Exception {
        byte[] golden = bundle.read("golden.safetensors");
        BundleFiles cut = changed(bundle, "golden.safetensors", Arrays.copyOf(golden, golden.length / 2));
        refused("a golden file that is cut", MobileCLIPException.Code.BUNDLE, () -> MobileCLIP.load(cut, replayOf(bundle)).selfTest());
        MobileCLIP model = MobileCLIP.load(bundle, replayOf(bundle));
        Picture picture = Picture.of(Picture.Layout.RGB, noise(3 * 90 * 80, 3), 90, 80);
        float[] right = Resize.prepare(picture, model.manifest.preprocess);
        check("blue and red exchanged is another input", !Arrays.equals(right, Resize.prepare(bgr(picture), model.manifest.preprocess)));
        String cubic = text("manifest.json").replace("\"bilinear\"", "\"bicubic\"");
        Manifest.Preprocess filter = Manifest.parse(cubic, "onnx").preprocess;
        check("another filter is another input", !Arrays.equals(right, Resize.prepare(picture, filter)));
        // A tower whose answers are exchanged does not pass its golden answers.
        Engine exchanged = new Engine() {
            @Override
            public String target() {
                return "onnx";
            }

            @Override
            public Model open(BundleFiles given, String name) {
                Model own = replayOf(bundle).open(given, name);
                return new Model() {
                    @Override
                    public float[] run(String input, Object values, long[] shape, String output) {
                        float[] found = own.run(input, values, shape, output);
                        float first = found[0];
                        System.arraycopy(found, 1, found, 0, found.length - 1);
                        found[found.length - 1] = first;
                        return found;
                    }

                    @Override
                    public void close() {
                        own.close();
                    }
                };
            }
        };
        for (TowerTest test : MobileCLIP.load(bundle, exchanged).selfTest()) check("wrong answers of " + test.tower, !test.passed);
    }

    static Picture bgr(Picture picture) {
        byte[] found = picture.rgb.clone();
        for (int index = 0; index < found.length; index += 3) {
            found[index] = picture.rgb[index + 2];
            found[index + 2] = picture.rgb[index];
        }
        return Picture.of(Picture.Layout.RGB, found, picture.width, picture.height);
    }

    // From the whole bundle, whatever the changed one computes.
    private static Engine replayOf(BundleFiles whole) {
        Engine own = replay(whole);
        return new Engine() {
            @Override
            public String target() {
                return "onnx";
            }

            @Override
            public Model open(BundleFiles given, String name) {
                return own.open(whole, name);
            }
        };
    }
}
