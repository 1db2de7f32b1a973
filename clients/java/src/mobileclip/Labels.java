package mobileclip;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Labels to classify pictures with; {@link MobileCLIP#labels} makes them once. */
public final class Labels {
    private final List<String> names;
    private final float[][] vectors;
    private final double scale;
    private final double bias;
    private final String space;

    /** A label and how probable it is. */
    public static final class Share {
        public final String label;
        public final double probability;

        Share(String label, double probability) {
            this.label = label;
            this.probability = probability;
        }

        @Override
        public String toString() {
            return label + " " + probability;
        }
    }

    Labels(List<String> names, List<? extends Embedding> embedded, Manifest manifest) {
        this.names = new ArrayList<>(names);
        vectors = new float[embedded.size()][];
        for (int index = 0; index < vectors.length; index++) vectors[index] = embedded.get(index).values;
        scale = manifest.logitScale;
        bias = manifest.logitBias;
        space = manifest.embeddingSpace;
    }

    /** Every label, the most probable first; all together 1, but for a network with a {@link Manifest#logitBias}, which
     * judges each label alone. */
    public List<Share> classify(Embedding picture) {
        picture.check(space, "the labels");
        return ranked(names, Vectors.probabilities(picture.values, vectors, scale, bias));
    }

    /** The indices of the labels that are present, the most probable first; {@code shares}: of the labels, then of "none of
     * these". */
    static List<Integer> present(double[] ratios, double share, double[] shares) {
        int count = shares.length - 1;
        double most = 0;
        for (int index = 0; index < count; index++) most = Math.max(most, shares[index]);
        double least = Math.max(share * most, 1e-6);
        List<Integer> found = new ArrayList<>();
        for (int index = 0; index < count; index++) {
            if (shares[index] >= Math.max(ratios[index] * shares[count], least)) found.add(index);
        }
        Collections.sort(found, (one, other) -> Double.compare(shares[other], shares[one]));
        return found;
    }

    static List<Share> present(List<String> names, double[] ratios, double share, double[] shares) {
        List<Share> found = new ArrayList<>();
        for (int index : present(ratios, share, shares)) found.add(new Share(names.get(index), shares[index]));
        return found;
    }

    static List<Share> ranked(List<String> names, double[] shares) {
        List<Share> found = new ArrayList<>();
        for (int index = 0; index < shares.length; index++) found.add(new Share(names.get(index), shares[index]));
        Collections.sort(found, (one, other) -> Double.compare(other.probability, one.probability));
        return found;
    }
}
