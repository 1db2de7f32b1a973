package mobileclip;

import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UnsupportedEncodingException;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.URL;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/** Fetches a job's folder from a web server: every file is held to the size and SHA-256 that files.json names. */
public final class BenchFetch {
    private static final int MILLISECONDS = 30_000;

    private BenchFetch() {}

    /** The address in a link that the phone opened, {@code mobileclip-bench:?job=ADDRESS}; empty where there is none. */
    public static String linked(String opened) {
        int at = opened.indexOf("?job=");
        if (at < 0) return "";
        try {
            return URLDecoder.decode(opened.substring(at + "?job=".length()).replace("+", "%2B"), "UTF-8");
        } catch (UnsupportedEncodingException | IllegalArgumentException damaged) {
            return "";
        }
    }

    /**
     * Fetches what lies at {@code link}, a folder with files.json or that file, to {@code runs}/ID: whole or not at all.
     *
     * @return the job's folder.
     */
    public static File job(String link, File runs) throws IOException {
        String named = link.endsWith("/files.json") ? link.substring(0, link.length() - "files.json".length()) : link;
        String place = named.endsWith("/") ? named : named + "/";
        Map<?, ?> listing = (Map<?, ?>) Json.parse(new String(content(place + "files.json", 1 << 20), StandardCharsets.UTF_8), "files.json");
        String id = BenchRun.matching(BenchRun.identifierForm(), listing.get("run_id"));
        File partial = new File(new File(runs.getAbsoluteFile().getParentFile(), "fetching"), id);  // no run before it is whole
        remove(partial.getParentFile());
        for (Object one : (List<?>) listing.get("files")) {
            Map<?, ?> entry = (Map<?, ?>) one;
            String path = BenchRun.matching(BenchRun.pathForm(), entry.get("path"));
            File file = new File(partial, path);
            if (!file.getParentFile().isDirectory() && !file.getParentFile().mkdirs()) throw new IOException(file.getParent() + " cannot be made");
            int bytes = BenchRun.number(entry.get("bytes"));
            try (FileOutputStream stream = new FileOutputStream(file)) {
                stream.write(content(place + path, bytes));
            }
            if (file.length() != bytes || !BenchRun.sha256(file).equals(entry.get("sha256"))) {
                throw new IOException(path + " is not the file that files.json names; write the job again");
            }
        }
        File folder = new File(runs, id);
        if (!new BenchRun(partial, partial).id().equals(id)) throw new IOException("files.json is of another job; write the job again");
        remove(folder);
        if (!runs.isDirectory() && !runs.mkdirs()) throw new IOException(runs + " cannot be made");
        if (!partial.renameTo(folder)) throw new IOException(folder + " cannot be made");
        return folder;
    }

    /** At most {@code most} bytes of an address. Without https only from one's own network, where nobody else listens. */
    private static byte[] content(String address, int most) throws IOException {
        URL url = new URL(address);
        boolean isPlain = url.getProtocol().equals("http");
        if (!isPlain && !url.getProtocol().equals("https")) throw new IOException("the link has to begin with https:// or http://");
        if (isPlain) {
            InetAddress host = InetAddress.getByName(url.getHost());
            if (!host.isSiteLocalAddress() && !host.isLoopbackAddress() && !host.isLinkLocalAddress()) {
                throw new IOException("outside of your own network the link has to begin with https://");
            }
        }
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        connection.setConnectTimeout(MILLISECONDS);
        connection.setReadTimeout(MILLISECONDS);
        connection.setInstanceFollowRedirects(false);
        try {
            if (connection.getResponseCode() != 200) throw new IOException(address + " cannot be fetched (" + connection.getResponseCode() + "); is the link right?");
            try (InputStream stream = connection.getInputStream()) {
                java.io.ByteArrayOutputStream found = new java.io.ByteArrayOutputStream();
                byte[] part = new byte[1 << 16];
                for (int come; (come = stream.read(part)) >= 0;) {
                    found.write(part, 0, come);
                    if (found.size() > most) throw new IOException(address + " is larger than files.json says; write the job again");
                }
                return found.toByteArray();
            }
        } finally {
            connection.disconnect();
        }
    }

    static void remove(File file) throws IOException {
        File[] inside = file.listFiles();
        if (inside != null) {
            for (File one : inside) remove(one);
        }
        if (file.exists() && !file.delete()) throw new IOException(file + " cannot be removed");
    }
}
