package android.content.res;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/** A folder for an app's assets. */
public final class AssetManager {
    private final Path folder;

    /** Of tests alone. */
    public AssetManager(Path folder) {
        this.folder = folder;
    }

    /** As on a phone, empty for a file, and for what is not there. */
    public String[] list(String path) throws IOException {
        String[] names = new File(folder.toFile(), path).list();
        return names == null ? new String[0] : names;
    }

    public InputStream open(String fileName) throws IOException {
        return Files.newInputStream(folder.resolve(fileName));
    }
}
