package mobileclip;

import ai.onnxruntime.OnnxJavaType;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * A cell's golden inputs, and the answers to the first of them that its job shows: for the screen of a phone that measures
 * by itself. The verdict that counts is of all answers, and is given where the job was written.
 */
final class BenchAnswers {
    private BenchAnswers() {}

    /** The first {@code limit} golden inputs (0: all), or the one constant input of a cell that has none. */
    static List<byte[]> inputs(Map<?, ?> cell, File folder, int limit) throws IOException {
        if (cell.get("golden") == null) return Arrays.asList(constant(cell));
        List<byte[]> rows = rows((Map<?, ?>) ((Map<?, ?>) cell.get("golden")).get("inputs"), folder);
        return limit == 0 ? rows : rows.subList(0, Math.min(limit, rows.size()));
    }

    /**
     * What the screen says: {@code median} and the verdict on the shown answers; no median where they are wrong.
     *
     * @param answers what the round brought, in base64; null where it brought none.
     */
    static String told(Map<?, ?> cell, File folder, String answers, String median) throws IOException {
        Map<?, ?> golden = (Map<?, ?>) cell.get("golden");
        if (golden == null || golden.get("outputs") == null || answers == null) return median + ", answers not compared";
        List<byte[]> wanted = rows((Map<?, ?>) golden.get("outputs"), folder);
        ByteBuffer found = ByteBuffer.wrap(Base64.getDecoder().decode(answers)).order(ByteOrder.LITTLE_ENDIAN);
        int width = wanted.get(0).length / 4;
        int asked = found.remaining() / 4 / width;
        Map<?, ?> gate = (Map<?, ?>) cell.get("gate");
        String metric = (String) gate.get("metric");
        boolean isCosine = metric.equals("cosine");
        double bound = (Double) gate.get("bound");
        double worst = isCosine ? Double.POSITIVE_INFINITY : 0;
        for (byte[] row : wanted) {
            double deviation = asked < wanted.size() ? Double.NaN : deviation(ByteBuffer.wrap(row).order(ByteOrder.LITTLE_ENDIAN), found, width, metric);
            if (Double.isNaN(deviation)) deviation = isCosine ? -1 : Double.POSITIVE_INFINITY;
            worst = isCosine ? Math.min(worst, deviation) : Math.max(worst, deviation);
        }
        String figure = String.format(Locale.ROOT, "%s %.6g (gate %.6g), %d of %d", metric, worst, bound, wanted.size(), asked);
        boolean right = isCosine ? worst >= bound : worst <= bound;
        return right ? median + ", answers right: " + figure : "WRONG ANSWERS: " + figure;
    }

    /** As parity.metrics.compare has it, of one input; NaN where what was found is not finite, or of no length. */
    private static double deviation(ByteBuffer wanted, ByteBuffer found, int width, String metric) {
        double product = 0, one = 0, two = 0, difference = 0, largest = 0;
        for (int i = 0; i < width; i++) {
            double a = wanted.getFloat(), b = found.getFloat();
            product += a * b;
            one += a * a;
            two += b * b;
            difference += (b - a) * (b - a);
            largest = Math.max(largest, Math.abs(b - a));
        }
        if (Double.isNaN(two) || Double.isInfinite(two)) return Double.NaN;
        if (metric.equals("cosine")) return product / Math.sqrt(one) / Math.sqrt(two);
        return metric.equals("relative") ? Math.sqrt(difference / one) : largest;
    }

    private static List<byte[]> rows(Map<?, ?> tensor, File folder) throws IOException {
        File file = new File(folder, BenchRun.matching(BenchRun.pathForm(), tensor.get("file")));
        if (!BenchRun.sha256(file).equals(tensor.get("sha256"))) throw new IOException(tensor.get("file") + " did not arrive as it was sent");
        byte[] all = BenchRun.bytes(file);
        int count = BenchRun.number(((List<?>) tensor.get("shape")).get(0));
        List<byte[]> found = new ArrayList<>();
        for (int i = 0; i < count; i++) found.add(Arrays.copyOfRange(all, all.length / count * i, all.length / count * (i + 1)));
        return found;
    }

    /** Pixels 0.5; ids: start, end, padding. */
    private static byte[] constant(Map<?, ?> cell) throws IOException {
        Map<?, ?> input = (Map<?, ?>) cell.get("input");
        int count = 1;
        for (Object size : (List<?>) input.get("shape")) count *= BenchRun.number(size);
        OnnxJavaType type = type((String) input.get("dtype"));
        ByteBuffer found = ByteBuffer.allocate(count * type.size).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < count; i++) {
            int id = cell.get("tower").equals("text") && i < 2 ? 49406 + i : 0;
            switch (type) {
                case UINT8: found.put((byte) 128); break;
                case FLOAT16: found.putShort((short) 0x3800); break;
                case FLOAT: found.putFloat(0.5f); break;
                case INT32: found.putInt(id); break;
                default: found.putLong(id);
            }
        }
        return found.array();
    }

    static OnnxJavaType type(String dtype) {
        switch (dtype) {
            case "float32": return OnnxJavaType.FLOAT;
            case "float16": return OnnxJavaType.FLOAT16;
            case "uint8": return OnnxJavaType.UINT8;
            case "int32": return OnnxJavaType.INT32;
            case "int64": return OnnxJavaType.INT64;
            default: throw new IllegalArgumentException(dtype + " is no type of a job");
        }
    }
}
