package mobileclip;

import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;

/** Where a bundle's files are: a folder, or an app's assets. */
public interface BundleFiles {
    /** The bytes of a file, by its name in the bundle, such as tokenizer/vocab.json. */
    byte[] read(String name) throws IOException;

    /** The file itself, which an engine opens without reading it into memory; null where there is none. */
    File file(String name);

    /** A published bundle whose files are held to a lock: one whose SHA-256 is not in it is refused as it is opened.
     * {@code lock}: the text in OWNER--NAME.lock.json, which {@code publish} writes. */
    static BundleFiles locked(BundleFiles bundle, String lock) {
        return new Lock(bundle, lock);
    }

    /** A bundle in a folder. */
    static BundleFiles folder(File folder) {
        return new BundleFiles() {
            @Override
            public byte[] read(String name) throws IOException {
                File file = file(name);
                byte[] found = new byte[(int) file.length()];
                try (DataInputStream stream = new DataInputStream(new FileInputStream(file))) {
                    stream.readFully(found);
                }
                return found;
            }

            @Override
            public File file(String name) {
                return new File(folder, name);
            }
        };
    }
}
