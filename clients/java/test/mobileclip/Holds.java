package mobileclip;

import java.io.File;
import java.io.IOException;

/** Holds an index as its writer, reads it meanwhile, and waits until its input ends: {@code Holds INDEX}. */
final class Holds {
    private Holds() {}

    public static void main(String[] given) throws IOException {
        File file = new File(given[0]);
        try (IndexWriter writer = IndexWriter.open(file)) {
            System.out.println("held, " + Index.open(file).length() + " picture read");
            System.in.read();
        } catch (MobileCLIPException error) {
            System.out.println("refused " + error.code);
        }
    }
}
