package mobileclip;

/** From a decoded picture to a tower's input, in the very bytes that Pillow's resize gives (ImagingResample, 8 bits a
 * channel): two passes, the weights in fixed point of 22 bits. */
final class Resize {
    private static final int BITS = 22;
    private static final int HALF = 1 << (BITS - 1);

    private Resize() {}

    // Keys' cubic with a = -0.5, as Pillow has it; or a triangle.
    private static double weight(boolean cubic, double place) {
        double t = Math.abs(place);
        if (!cubic) return Math.max(0, 1 - t);
        double a = -0.5;
        if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
        return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
    }

    // For each of `out` places on an axis of `size` pixels: the first pixel that counts, and the weights from there on.
    private static final class Weights {
        final int[] first;
        final int[][] factors;

        Weights(int size, int out, boolean cubic) {
            first = new int[out];
            factors = new int[out][];
            double scale = (double) size / out;
            double stretch = Math.max(scale, 1);
            double support = (cubic ? 2 : 1) * stretch;
            double narrower = 1 / stretch; // a division in its place gives another last bit
            for (int place = 0; place < out; place++) {
                double center = (place + 0.5) * scale;
                int from = Math.max(0, (int) (center - support + 0.5));
                int to = Math.min(size, (int) (center + support + 0.5));
                double[] found = new double[to - from];
                double sum = 0;
                for (int index = 0; index < found.length; index++) {
                    sum += found[index] = weight(cubic, (index + from - center + 0.5) * narrower);
                }
                int[] fixed = new int[found.length];
                for (int index = 0; index < fixed.length; index++) {
                    double one = found[index] / sum * (1 << BITS);
                    fixed[index] = (int) (one < 0 ? one - 0.5 : one + 0.5);
                }
                first[place] = from;
                factors[place] = fixed;
            }
        }

        int end() {
            int last = first.length - 1;
            return first[last] + factors[last].length;
        }
    }

    private static byte clip(int sum) {
        int value = sum >> BITS;
        return (byte) (value < 0 ? 0 : value > 255 ? 255 : value);
    }

    // [height, width, 3] -> [bottom - top, out, 3], only those rows.
    private static byte[] across(byte[] pixels, int width, Weights weights, int top, int bottom) {
        int out = weights.first.length;
        byte[] found = new byte[(bottom - top) * out * 3];
        for (int y = top, to = 0; y < bottom; y++) {
            for (int place = 0; place < out; place++) {
                int[] factors = weights.factors[place];
                int from = (y * width + weights.first[place]) * 3;
                int r = HALF;
                int g = HALF;
                int b = HALF;
                for (int factor : factors) {
                    r += (pixels[from] & 255) * factor;
                    g += (pixels[from + 1] & 255) * factor;
                    b += (pixels[from + 2] & 255) * factor;
                    from += 3;
                }
                found[to] = clip(r);
                found[to + 1] = clip(g);
                found[to + 2] = clip(b);
                to += 3;
            }
        }
        return found;
    }

    // [height, width, 3] -> [out, width, 3]; `top` rows of the whole picture are not among `pixels`.
    private static byte[] down(byte[] pixels, int width, Weights weights, int top) {
        int row = width * 3;
        byte[] found = new byte[weights.first.length * row];
        int[] sums = new int[row];
        for (int place = 0; place < weights.first.length; place++) {
            java.util.Arrays.fill(sums, HALF);
            int from = (weights.first[place] - top) * row;
            for (int factor : weights.factors[place]) {
                for (int x = 0; x < row; x++) sums[x] += (pixels[from + x] & 255) * factor;
                from += row;
            }
            for (int x = 0; x < row; x++) found[place * row + x] = clip(sums[x]);
        }
        return found;
    }

    /** RGB bytes [outHeight, outWidth, 3], as Pillow's Image.resize. */
    static byte[] resize(Picture picture, int outWidth, int outHeight, boolean cubic) {
        int width = picture.width;
        int height = picture.height;
        Weights rows = new Weights(height, outHeight, cubic);
        Weights columns = new Weights(width, outWidth, cubic);
        // Since Pillow 13.0 the height comes first where it loses more than twice what the width loses
        // (python-pillow/Pillow#9549).
        if (height > outHeight && height - outHeight > 2 * (width - outWidth)) {
            byte[] low = down(picture.rgb, width, rows, 0);
            return outWidth == width ? low : across(low, width, columns, 0, outHeight);
        }
        int top = outWidth == width ? 0 : rows.first[0];
        byte[] narrow = outWidth == width ? picture.rgb : across(picture.rgb, width, columns, top, rows.end());
        return outHeight == height ? narrow : down(narrow, outWidth, rows, top);
    }

    /** float32 [3, S, S] in [0, 1]: resized and cropped as the bundle's manifest says. */
    static float[] prepare(Picture picture, Manifest.Preprocess how) {
        int side = how.cropFraction > 0 ? (int) Math.floor(how.size / how.cropFraction) : how.size;
        int outWidth = side;
        int outHeight = side;
        if (how.keepsShape) {
            long longer = (long) side * Math.max(picture.width, picture.height) / Math.min(picture.width, picture.height);
            if (3 * longer * Math.max(side, Math.min(picture.width, picture.height)) > Integer.MAX_VALUE - 8) {
                throw new MobileCLIPException(MobileCLIPException.Code.PICTURE, "a picture of too long a shape");
            }
            if (picture.width <= picture.height) outHeight = (int) longer;
            else outWidth = (int) longer;
        }
        byte[] small = resize(picture, outWidth, outHeight, how.cubic);
        int size = how.size;
        int left = (int) Math.rint((outWidth - size) / 2.0);
        int top = (int) Math.rint((outHeight - size) / 2.0);
        float[] found = new float[3 * size * size];
        for (int channel = 0, at = 0; channel < 3; channel++) {
            for (int y = 0; y < size; y++) {
                int from = ((y + top) * outWidth + left) * 3 + channel;
                for (int x = 0; x < size; x++, from += 3) found[at++] = (small[from] & 255) / 255f;
            }
        }
        return found;
    }
}
