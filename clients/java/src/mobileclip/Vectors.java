package mobileclip;

/** Arithmetic on embeddings. */
public final class Vectors {
    private Vectors() {}

    /** A vector scaled to length 1 [D]. NaN, infinite numbers and length 0 are refused. */
    public static float[] unit(float[] values) {
        double sum = dot(values, values);
        if (Double.isNaN(sum) || Double.isInfinite(sum) || sum == 0) {
            throw new MobileCLIPException(
                    MobileCLIPException.Code.QUERY, "an embedding holds NaN or infinite numbers, or has length 0");
        }
        double length = Math.sqrt(sum);
        float[] found = new float[values.length];
        for (int index = 0; index < found.length; index++) found[index] = (float) (values[index] / length);
        return found;
    }

    /** The sum of products of two vectors. */
    public static double dot(float[] one, float[] other) {
        double sum = 0;
        for (int index = 0; index < one.length; index++) sum += (double) one[index] * other[index];
        return sum;
    }

    /** The probability of each label: softmax of {@code scale} times the cosines; all vectors have length 1. With a {@code
     * bias}, which is not NaN, the sigmoid of each, and of it. */
    public static double[] probabilities(float[] embedding, float[][] labels, double scale, double bias) {
        double[] found = new double[labels.length];
        for (int index = 0; index < found.length; index++) found[index] = scale * dot(embedding, labels[index]);
        if (Double.isNaN(bias)) return softmax(found);
        for (int index = 0; index < found.length; index++) found[index] = 1 / (1 + Math.exp(-found[index] - bias));
        return found;
    }

    static double[] softmax(double[] logits) {
        double top = Double.NEGATIVE_INFINITY;
        for (double one : logits) top = Math.max(top, one);
        double[] found = new double[logits.length];
        double sum = 0;
        for (int index = 0; index < found.length; index++) sum += found[index] = Math.exp(logits[index] - top);
        for (int index = 0; index < found.length; index++) found[index] /= sum;
        return found;
    }
}
