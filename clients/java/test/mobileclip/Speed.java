package mobileclip;

import java.io.File;
import java.lang.management.ManagementFactory;
import java.util.Arrays;

/** CPU seconds of the median of some runs, after as many that do not count: {@code Speed RUNS resize}, a picture of 4000 x
 * 3000 to a side of 256, bilinear; {@code Speed RUNS INDEX.mcdx}, the nearest 20 of an index; {@code open:INDEX.mcdx} and
 * {@code write:INDEX.mcdx} open it, and a writer of it. */
final class Speed {
    private Speed() {}

    public static void main(String[] given) throws Exception {
        int runs = Integer.parseInt(given[0]);
        Runnable work;
        if (given[1].equals("resize")) {
            Picture picture = Picture.of(Picture.Layout.RGB, Checks.noise(4000 * 3000 * 3, 1), 4000, 3000);
            work = () -> Resize.resize(picture, 341, 256, false);
        } else if (given[1].startsWith("open:")) {
            File file = new File(given[1].substring(5));
            work = () -> Index.open(file);
        } else if (given[1].startsWith("write:")) {
            File file = new File(given[1].substring(6));
            work = () -> IndexWriter.open(file).close();
        } else {
            Index index = Index.open(new File(given[1]));
            byte[] noise = Checks.noise(index.dimension, 7);
            float[] query = new float[index.dimension];
            for (int at = 0; at < query.length; at++) query[at] = noise[at];
            Embedding asked = new Embedding(query, index.embeddingSpace);
            work = () -> index.search(asked, 20);
        }
        double[] found = new double[runs];
        for (int run = -runs; run < runs; run++) {
            long before = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
            work.run();
            if (run >= 0) found[run] = (ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() - before) / 1e9;
        }
        Arrays.sort(found);
        System.out.println(found[runs / 2]);
    }
}
