package mobileclip;

import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HashMap;
import java.util.Map;

/** A bundle's files, held to the lock that {@code publish} wrote: one whose SHA-256 is not in it is refused. */
final class Lock implements BundleFiles {
    private static final int NEWEST_SCHEMA = 1;
    private static final String MANIFEST = "manifest.json";
    private final BundleFiles bundle;
    private final String commit;
    /** By path in the repository. */
    private final Map<String, String> hashes = new HashMap<>();
    private String prefix;

    /** The hash of manifest.json says which of the lock's bundles this is. */
    Lock(BundleFiles bundle, String json) {
        this.bundle = bundle;
        Object read = Json.parse(json, "the lock");
        Object version = read instanceof Map ? ((Map<?, ?>) read).get("schema_version") : null;
        if (!(version instanceof Double) || (Double) version < 1 || (Double) version % 1 != 0) {
            throw Manifest.refused("the lock is not one of `publish`: pass the text in OWNER--NAME.lock.json", null);
        }
        if ((Double) version > NEWEST_SCHEMA) {
            throw new MobileCLIPException(MobileCLIPException.Code.NEWER, "the lock has schema version "
                    + ((Double) version).longValue() + ", and this package reads up to " + NEWEST_SCHEMA + ": update it");
        }
        Manifest.Fields lock = new Manifest.Fields((Map<?, ?>) read);
        try {
            commit = matching(lock, "repository", "[A-Za-z0-9][\\w.-]{0,95}/[A-Za-z0-9][\\w.-]{0,95}") + "@"
                    + matching(lock, "commit", "[0-9a-f]{40}");
            Manifest.Fields files = lock.fields("files");
            for (Object path : files.values.keySet()) {
                if (!Manifest.isPlain((String) path)) throw new IllegalArgumentException("`files`");
                hashes.put((String) path, matching(files.fields((String) path), "sha256", "[0-9a-f]{64}"));
            }
            String sha256 = hash(MANIFEST, new ByteArrayInputStream(readManifest()));
            for (String path : lock.texts("bundles")) {
                if (!path.equals(".") && !Manifest.isPlain(path)) throw new IllegalArgumentException("`bundles`");
                String start = path.equals(".") ? "" : path + "/";
                if (prefix == null && sha256.equals(hashes.get(start + MANIFEST))) prefix = start;
            }
        } catch (IllegalArgumentException wrong) {
            throw Manifest.refused("the lock's " + wrong.getMessage() + " is missing or not valid: publish again", wrong);
        }
        if (prefix == null) throw differing(MANIFEST);
    }

    private static String matching(Manifest.Fields fields, String name, String pattern) {
        String text = fields.text(name);
        if (!text.matches(pattern)) throw new IllegalArgumentException("`" + name + "`");
        return text;
    }

    private byte[] readManifest() {
        try {
            return bundle.read(MANIFEST);
        } catch (IOException unread) {
            throw unreadable(MANIFEST, unread);
        }
    }

    @Override
    public byte[] read(String name) throws IOException {
        byte[] bytes = bundle.read(name);
        check(name, new ByteArrayInputStream(bytes));
        return bytes;
    }

    @Override
    public File file(String name) {
        File file = bundle.file(name);
        if (file == null) return null;
        try (InputStream stream = new FileInputStream(file)) {
            check(name, stream);
        } catch (IOException unread) {
            throw unreadable(name, unread);
        }
        return file;
    }

    private void check(String name, InputStream content) {
        if (!hash(name, content).equals(hashes.get(prefix + name))) throw differing(name);
    }

    private MobileCLIPException differing(String name) {
        return Manifest.refused(name + " is not the file in the lock of " + commit + ": download the bundle again", null);
    }

    private static MobileCLIPException unreadable(String name, IOException cause) {
        return Manifest.refused(name + " cannot be read (" + cause.getMessage() + "): is it a bundle?", cause);
    }

    private static String hash(String name, InputStream content) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            byte[] part = new byte[1 << 16];
            for (int count; (count = content.read(part)) >= 0; ) digest.update(part, 0, count);
            StringBuilder text = new StringBuilder();
            for (byte one : digest.digest()) text.append(String.format("%02x", one));
            return text.toString();
        } catch (IOException unread) {
            throw unreadable(name, unread);
        } catch (NoSuchAlgorithmException absent) {
            throw new IllegalStateException(absent); // every Java and Android has SHA-256
        }
    }
}
