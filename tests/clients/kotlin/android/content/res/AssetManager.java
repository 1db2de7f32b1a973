package android.content.res;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/** A folder for an app's assets. */
public final class AssetManager {
    private final Path folder;

    public AssetManager(Path folder) { this.folder = folder; }
    public InputStream open(String name) throws IOException { return Files.newInputStream(folder.resolve(name)); }
}
