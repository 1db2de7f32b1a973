package mobileclip;

import java.nio.ByteBuffer;

/** Scores of rows that lie in a mapped file. */
final class Scores {
    private Scores() {}

    /** A query of length 1, as floats and as int8. */
    static final class Query {
        /** An integer times this is a component. */
        final float scale;
        private final float[] vector;
        private final byte[] integers;
        // Of each 8 numbers 4 longs, number i of them in the upper half and number i + 4 in the lower: see integers().
        private final long[] pairs;
        private final int correction;
        private int[] sums;

        /** By the scale that lets the largest component be 127; half to even, in float32. */
        Query(float[] vector) {
            this.vector = vector;
            float most = 0;
            for (float one : vector) most = Math.max(most, Math.abs(one));
            scale = most / 127;
            integers = new byte[vector.length];
            int sum = 0;
            for (int index = 0; index < vector.length; index++) {
                integers[index] = (byte) Math.max(-127, Math.min(127, Math.rint(vector[index] / scale)));
                sum += integers[index];
            }
            pairs = new long[vector.length / 8 * 4];
            int left = 0;
            for (int index = pairs.length * 2; index < vector.length; index++) left += integers[index];
            for (int index = 0; index < pairs.length; index++) {
                int first = index / 4 * 8 + index % 4;
                pairs[index] = ((long) integers[first] << 32) + integers[first + 4];
            }
            correction = 128 * (sum - left);
        }

        /** The sum of products with an int8 row, exactly.
         *
         * A row's bytes plus 128 are 0 to 255. Of eight in a long, a mask keeps two 32 bits apart, u0 + 2^32 u4; times
         * q4 + 2^32 q0 that is u0 q4 + 2^32 (u0 q0 + u4 q4), and what is above is lost: two products by one
         * multiplication. The upper halves' sum stays below 2^31 for the largest dimension, the lower halves' too. */
        int integers(ByteBuffer rows, int at) {
            long a = 0;
            long b = 0;
            long c = 0;
            long d = 0;
            final long[] pairs = this.pairs;
            for (int index = 0; index < pairs.length; index += 4, at += 8) {
                long eight = rows.getLong(at) ^ 0x8080808080808080L;
                a += (eight & 0x000000ff000000ffL) * pairs[index];
                b += (eight >>> 8 & 0x000000ff000000ffL) * pairs[index + 1];
                c += (eight >>> 16 & 0x000000ff000000ffL) * pairs[index + 2];
                d += (eight >>> 24 & 0x000000ff000000ffL) * pairs[index + 3];
            }
            long both = a + b + c + d;
            int sum = (int) ((both - (int) both) >> 32) - correction;
            for (int index = pairs.length * 2; index < integers.length; index++) sum += rows.get(at++) * integers[index];
            return sum;
        }

        /** The query's integers, each with the sign that a row's bit says: by a table of each byte's 256 sums. */
        int signs(ByteBuffer rows, int at) {
            int bytes = (vector.length + 7) / 8;
            if (sums == null) sums = table(bytes);
            int sum = 0;
            for (int index = 0; index < bytes; index++) sum += sums[256 * index + (rows.get(at + index) & 255)];
            return sum;
        }

        private int[] table(int bytes) {
            int[] found = new int[256 * bytes];
            for (int index = 0; index < found.length; index++) {
                for (int bit = 0, place = index / 256 * 8; bit < 8 && place < integers.length; bit++, place++) {
                    found[index] += (index >> bit & 1) == 1 ? integers[place] : -integers[place];
                }
            }
            return found;
        }

        double floats(ByteBuffer rows, int at) {
            double sum = 0;
            for (int index = 0; index < vector.length; index++) sum += (double) rows.getFloat(at + 4 * index) * vector[index];
            return sum;
        }

        double halves(ByteBuffer rows, int at) {
            double sum = 0;
            for (int index = 0; index < vector.length; index++) sum += (double) half(rows.getShort(at + 2 * index)) * vector[index];
            return sum;
        }
    }

    // IEEE 754 binary16: its bits at float32's places are the number times 2^-112, but for infinity and NaN.
    private static float half(int bits) {
        float found = Float.intBitsToFloat((bits & 0x7fff) << 13) * 0x1p112f;
        if ((bits & 0x7c00) == 0x7c00) found = (bits & 0x3ff) == 0 ? Float.POSITIVE_INFINITY : Float.NaN;
        return bits < 0 ? -found : found;
    }
}
