package mobileclip;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Labels that Python's {@code learn_labels} learned from pictures (labels.safetensors), for a bundle with embeddings. */
public final class LearnedLabels {
    private static final String NONE = "none of these";
    private static final String FORMAT = "mobileclip-deploy labels ";
    private static final int MOST_LABELS = 100_000;
    private static final int LONGEST_LABEL = 1000;
    private static final double LARGEST_RATIO = 1e6;

    /** The labels, without "none of these". */
    public final List<String> names;
    public final String embeddingSpace;
    private final List<String> all;
    private final double[] ratios;
    private final double share;
    private final int width;
    private final float[] weights;
    private final float[] biases;

    /** Reads a file. BUNDLE where it cannot be read, or is none. */
    public static LearnedLabels open(File file) {
        try {
            return open(Files.readAllBytes(file.toPath()));
        } catch (IOException unread) {
            throw Manifest.refused(file.getName() + " cannot be read: " + unread.getMessage(), unread);
        }
    }

    /** A file that is in memory already. */
    public static LearnedLabels open(byte[] bytes) {
        Manifest.Fields told;
        Safetensors file;
        try {
            file = Safetensors.parse(bytes, "the file of labels");
            told = new Manifest.Fields((Map<?, ?>) Json.parse((String) file.metadata.get("labels"), "the labels"));
            String format = told.text("format");
            if (!format.equals(FORMAT + 1)) {
                if (!format.matches(FORMAT + "[1-9][0-9]*")) throw new IllegalArgumentException("`format`");
                throw new MobileCLIPException(MobileCLIPException.Code.NEWER,
                        "the labels are a file of \"" + format + "\", and this package reads 1: update it");
            }
            return new LearnedLabels(told, file.tensors);
        } catch (MobileCLIPException known) {
            throw known.code == MobileCLIPException.Code.NEWER ? known : wrong(known);
        } catch (IllegalArgumentException | ClassCastException | NullPointerException cause) {
            throw wrong(cause);
        }
    }

    private static MobileCLIPException wrong(RuntimeException cause) {
        return Manifest.refused("not a valid file of labels: learn them again", cause);
    }

    private LearnedLabels(Manifest.Fields told, Map<String, Safetensors.Tensor> tensors) {
        embeddingSpace = told.text("embedding_space");
        names = told.texts("labels");
        Manifest.Fields rule = told.fields("thresholds");
        ratios = rule.doubles("ratios");
        share = rule.number("share");
        int rows = names.size() + 1;
        boolean right = names.size() >= 2 && names.size() <= MOST_LABELS && ratios.length == names.size() && !names.contains(NONE);
        for (String name : names) right &= name.codePointCount(0, name.length()) <= LONGEST_LABEL;
        for (double ratio : ratios) right &= ratio >= 0 && ratio <= LARGEST_RATIO;
        int examples = rule.whole("examples");
        int background = rule.whole("background");
        right &= share >= 0 && share <= 1 && examples >= 1 && background >= 0;
        Safetensors.Tensor matrix = tensors.get("weights");
        width = matrix.shape.length == 2 ? matrix.shape[1] : 0;
        right &= width > 0 && matrix.is("F32", rows, width) && tensors.get("biases").is("F32", rows)
                && tensors.get("digests").is("U8", examples + background, 8);
        if (!right) throw new IllegalArgumentException("labels, rows and thresholds that do not match");
        weights = (float[]) matrix.data;
        biases = (float[]) tensors.get("biases").data;
        for (float one : weights) right &= Math.abs(one) <= Float.MAX_VALUE; // NaN is not
        for (float one : biases) right &= Math.abs(one) <= Float.MAX_VALUE;
        if (!right) throw new IllegalArgumentException("rows that are not finite");
        all = new ArrayList<>(names);
        all.add(NONE);
    }

    /** All labels and "none of these", the most probable first. */
    public List<Labels.Share> classify(Embedding picture) {
        return Labels.ranked(all, shares(picture));
    }

    /** The labels that are present, the most probable first; empty where none of them is. */
    public List<Labels.Share> tags(Embedding picture) {
        return Labels.present(names, ratios, share, shares(picture));
    }

    private double[] shares(Embedding picture) {
        picture.check(embeddingSpace, "the labels");
        if (picture.values.length != width) {
            throw new MobileCLIPException(MobileCLIPException.Code.SPACE,
                    "the embedding has " + picture.values.length + " numbers and the labels take " + width);
        }
        float[] vector = Vectors.unit(picture.values);
        double[] logits = new double[biases.length];
        for (int row = 0; row < logits.length; row++) {
            double sum = biases[row];
            for (int index = 0; index < width; index++) sum += (double) vector[index] * weights[row * width + index];
            logits[row] = sum;
        }
        double[] found = Vectors.softmax(logits);
        for (int row = 0; row < found.length; row++) found[row] = (float) found[row]; // Python's are float32
        return found;
    }
}
