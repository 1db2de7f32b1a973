package mobileclip;

import java.util.Map;

/** From when on a match counts (docs/search.md): background pictures, and what was learned from them. */
final class Relevance {
    private final byte[] background;
    private final float[] weights;
    private final double scale;
    private final double spread;
    private final double intercept;
    private final double slope;

    Relevance(Map<?, ?> manifest, int dimension, byte[] file) {
        Manifest.Fields told = new Manifest.Fields(manifest);
        Map<String, Safetensors.Tensor> tensors = Safetensors.parse(file, "relevance.safetensors").tensors;
        Safetensors.Tensor pictures = tensors.get("background");
        Safetensors.Tensor learned = tensors.get("weights");
        try {
            boolean fits = pictures != null && pictures.is("I8", told.whole("images"), dimension) && learned != null
                    && learned.is("F32", dimension);
            for (int index = 0; fits && index < dimension; index++) {
                fits = Math.abs(((float[]) learned.data)[index]) <= Float.MAX_VALUE; // NaN is not
            }
            if (!fits) throw new IllegalArgumentException("`relevance`");
            scale = told.number("scale");
            spread = told.number("spread");
            intercept = told.number("intercept");
            slope = told.number("slope");
        } catch (IllegalArgumentException wrong) {
            throw Manifest.refused("relevance.safetensors does not hold what the manifest says: export the bundle again", wrong);
        }
        background = (byte[]) pictures.data;
        weights = (float[]) learned.data;
    }

    /** The cosine that a match of a text [D] of length 1 needs in a library of {@code size} pictures. */
    double needed(float[] text, int size) {
        int dimension = text.length;
        int count = background.length / dimension;
        double sum = 0;
        double[] scores = new double[count];
        for (int row = 0; row < count; row++) {
            double score = 0;
            for (int index = 0; index < dimension; index++) score += (double) background[row * dimension + index] * text[index];
            scores[row] = score * scale;
            sum += scores[row];
        }
        double squares = 0;
        for (double score : scores) squares += (score - sum / count) * (score - sum / count);
        double lifted = Vectors.dot(text, weights) + spread * Math.sqrt(squares / count);
        return intercept + slope * Math.log(Math.max(size, 1)) - lifted;
    }
}
