import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Executors;
import mobileclip.BundleFiles;
import mobileclip.Embedding;
import mobileclip.ImageFiles;
import mobileclip.Index;
import mobileclip.IndexWriter;
import mobileclip.MobileCLIP;
import mobileclip.MobileCLIPException;
import mobileclip.OnnxEngine;

/**
 * Answers searches in a folder of pictures over HTTP, by the JDK's own server (Java 11 and newer):
 *
 * <pre>java -cp mobileclip.jar:mobileclip-desktop.jar:mobileclip-onnx.jar:onnxruntime.jar Server.java BUNDLE FOLDER PORT
 * curl 'http://localhost:PORT/search?text=a+red+car'</pre>
 *
 * An answer has a line for each match, the nearest first: its score, a tab, the file's name. The pictures are embedded
 * at the start, unless library.mcdx in the folder has them.
 */
public final class Server {
    private final MobileCLIP model;
    private final Index library;

    private Server(MobileCLIP model, Index library) {
        this.model = model;
        this.library = library;
    }

    /** Embeds the pictures that the library lacks, some hundred at a time. */
    private static Index update(MobileCLIP model, File folder) {
        File path = new File(folder, "library.mcdx");
        File[] files = folder.listFiles((parent, name) -> name.matches("(?i).*\\.(jpe?g|png|bmp)"));
        if (files == null) throw new IllegalArgumentException(folder + " is not a folder");
        Arrays.sort(files);
        try (IndexWriter writer = path.exists() ? IndexWriter.open(path) : IndexWriter.create(path, model.manifest)) {
            List<String> ids = new ArrayList<>();
            List<Embedding> embeddings = new ArrayList<>();
            for (File file : files) {
                if (writer.contains(file.getName())) continue;
                try {
                    embeddings.add(model.embedImage(ImageFiles.read(file)));
                    ids.add(file.getName());
                } catch (MobileCLIPException error) {
                    if (error.code != MobileCLIPException.Code.PICTURE) throw error;
                    System.err.println("left out: " + file + ": " + error.getMessage());
                }
                if (ids.size() == 500) add(writer, ids, embeddings);
            }
            add(writer, ids, embeddings);
        }
        return Index.open(path);
    }

    private static void add(IndexWriter writer, List<String> ids, List<Embedding> embeddings) {
        writer.add(ids, embeddings);
        writer.commit();
        ids.clear();
        embeddings.clear();
    }

    private void search(HttpExchange request) throws IOException {
        String query = request.getRequestURI().getRawQuery();
        int status = 200;
        StringBuilder answer = new StringBuilder();
        try {
            if (query == null || !query.startsWith("text=")) throw new IllegalArgumentException("usage: /search?text=TEXT");
            String text = URLDecoder.decode(query.substring("text=".length()), StandardCharsets.UTF_8);
            MobileCLIP.Answer found = model.search(library, text, 5);
            for (Index.Match match : found.matches) answer.append(match.score).append('\t').append(match.id).append('\n');
        } catch (IllegalArgumentException error) {
            status = 400;
            answer.append(error.getMessage()).append('\n');
        } catch (MobileCLIPException error) {
            status = error.code == MobileCLIPException.Code.QUERY ? 400 : 500;
            answer.append(error.getMessage()).append('\n');
        }
        byte[] bytes = answer.toString().getBytes(StandardCharsets.UTF_8);
        request.getResponseHeaders().set("Content-Type", "text/plain; charset=utf-8");
        request.sendResponseHeaders(status, bytes.length == 0 ? -1 : bytes.length);
        request.getResponseBody().write(bytes);
        request.close();
    }

    public static void main(String[] words) throws IOException {
        MobileCLIP model = MobileCLIP.load(BundleFiles.folder(new File(words[0])), new OnnxEngine());
        Server server = new Server(model, update(model, new File(words[1])));
        InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(words[2]));
        HttpServer http = HttpServer.create(address, 0);
        http.createContext("/search", server::search);
        http.setExecutor(Executors.newFixedThreadPool(4));
        http.start();
        System.out.println("http://localhost:" + http.getAddress().getPort() + "/search?text=");
    }
}
