package mobileclip;

import java.util.HashMap;
import java.util.Map;

/** How a tower answered the bundle's golden inputs on this device. */
public final class TowerTest {
    private static final Map<String, Double> COSINES = new HashMap<>();

    static {
        COSINES.put("fp16", 0.999);
        COSINES.put("w8", 0.99);
        COSINES.put("w8a16", 0.99);
        for (String name : new String[] {"w8a8", "w6p", "w4p", "w4p-p50", "mixed", "w4"}) COSINES.put(name, 0.98);
    }

    /** The largest relative distance that float32 may have. */
    static final double RELATIVE = 1e-4;

    public final String tower;
    public final int inputs;
    /** The worst of all inputs; NaN where an answer holds NaN. */
    public final double cosine;
    /** The largest distance from the checkpoint's answer, over that answer's length. */
    public final double relative;
    /** False: the tower answers wrongly on this device. */
    public final boolean passed;

    TowerTest(String tower, String precision, float[][] answers, float[] wanted) {
        this.tower = tower;
        inputs = answers.length;
        double worst = 1;
        double farthest = 0;
        for (int row = 0; row < answers.length; row++) {
            float[] answer = answers[row];
            float[] truth = java.util.Arrays.copyOfRange(wanted, row * answer.length, (row + 1) * answer.length);
            double length = Math.sqrt(Vectors.dot(truth, truth));
            double away = 0;
            for (int index = 0; index < truth.length; index++) {
                away += ((double) answer[index] - truth[index]) * ((double) answer[index] - truth[index]);
            }
            // Math.min and Math.max keep a NaN: then the tower did not pass.
            worst = Math.min(worst, Vectors.dot(answer, truth) / (Math.sqrt(Vectors.dot(answer, answer)) * length));
            farthest = Math.max(farthest, Math.sqrt(away) / length);
        }
        cosine = worst;
        relative = farthest;
        passed = precision.equals("fp32") ? farthest <= RELATIVE : worst >= bound(precision);
    }

    @Override
    public String toString() {
        return tower + (passed ? " passed" : " failed") + ": cosine " + cosine + ", relative " + relative + ", " + inputs + " inputs";
    }

    /** The cosine that a precision's answers need. */
    static double bound(String precision) {
        Double found = COSINES.get(precision);
        return found == null ? COSINES.get("fp16") : found;
    }
}
