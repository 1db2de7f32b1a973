package mobileclip;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.PriorityQueue;

/** The rows with the largest scores so far. They come in ascending order of rows: of equal scores the lower row stays. */
final class Best {
    static final class Row implements Comparable<Row> {
        final int row;
        final double score;

        Row(int row, double score) {
            this.row = row;
            this.score = score;
        }

        /** The best first. */
        @Override
        public int compareTo(Row other) {
            int found = Double.compare(other.score, score);
            return found == 0 ? Integer.compare(row, other.row) : found;
        }
    }

    private final int top;
    private final PriorityQueue<Row> worstFirst;
    private double least = Double.NEGATIVE_INFINITY;

    Best(int top) {
        this.top = top;
        worstFirst = new PriorityQueue<>(Math.max(1, Math.min(top, 1000)), Collections.reverseOrder());
    }

    boolean takes(double score) {
        return score > least;
    }

    void add(int row, double score) {
        worstFirst.add(new Row(row, score));
        if (worstFirst.size() > top) worstFirst.poll();
        if (worstFirst.size() == top) least = top == 0 ? Double.POSITIVE_INFINITY : worstFirst.peek().score;
    }

    List<Row> sorted() {
        List<Row> found = new ArrayList<>(worstFirst);
        Collections.sort(found);
        return found;
    }
}
