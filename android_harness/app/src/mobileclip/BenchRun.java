package mobileclip;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.FileReader;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * Carries out a job that {@code mobileclip-deploy benchmark --job} wrote, on ONNX Runtime: docs/measuring.md has the
 * steps and the file's form. No statistics go into the file; they are computed where it is read. In the core's package,
 * whose JSON it reads with.
 */
public final class BenchRun {
    /** Facts that only the device itself knows: objects of the record, with texts, numbers, booleans and lists of them. */
    public interface Phone {
        Map<String, Object> device();

        Map<String, Object> harness();

        Map<String, Object> snapshot();

        /** nominal, fair, serious or critical; null if unknown. */
        String thermalState();
    }

    /** Called before every round. */
    public interface Progress {
        void turn(int finished, int all, String cell);
    }

    private static final Pattern IDENTIFIER = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._+-]{0,119}");
    private static final Pattern PATH = Pattern.compile("[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*");
    private static final String RUNTIME = "onnxruntime";

    private final File folder;
    private final File results;
    private final String text;
    private final Map<?, ?> job;
    private final Map<?, ?> protocol;
    private final Map<String, Map<?, ?>> cells = new LinkedHashMap<>();

    /**
     * @param folder where job.json lies, and the files that it names.
     * @param results where the stream of finished rounds and the record go.
     */
    public BenchRun(File folder, File results) throws IOException {
        this.folder = folder;
        this.results = results;
        text = new String(bytes(new File(folder, "job.json")), StandardCharsets.UTF_8);
        job = (Map<?, ?>) Json.parse(text, "job.json");
        if (!Double.valueOf(1).equals(job.get("schema_version"))) throw new IOException("job.json is of another version of this app");
        protocol = (Map<?, ?>) job.get("protocol");
        for (Object one : (List<?>) job.get("cells")) {
            Map<?, ?> cell = (Map<?, ?>) one;
            cells.put(matching(IDENTIFIER, cell.get("id")), cell);
        }
    }

    public String id() throws IOException {
        return matching(IDENTIFIER, job.get("run_id"));
    }

    /** What the run leaves at its end. */
    public File record() throws IOException {
        return new File(results, id() + ".run.json");
    }

    /** Runs the turns that the stream does not hold yet, and writes the record. A round that fails is a result too. */
    public File run(Phone phone, Progress progress) throws IOException {
        if (!results.isDirectory() && !results.mkdirs()) throw new IOException(results + " cannot be made");
        File before = new File(results, id() + ".before.json");
        if (!before.isFile()) write(before, json(phone.snapshot()));
        Map<String, String> finished = finished();
        List<?> order = (List<?>) job.get("order");
        int done = 0;
        for (Object one : order) {
            Map<?, ?> turn = (Map<?, ?>) one;
            String cell = matching(IDENTIFIER, turn.get("cell"));
            int round = number(turn.get("round"));
            progress.turn(done++, order.size(), cell);
            if (finished.containsKey(cell + " " + round) || failed(finished, cell)) continue;
            String line = line(cell, round, phone);
            try (FileOutputStream stream = new FileOutputStream(stream(), true)) {
                stream.write((line + "\n").getBytes(StandardCharsets.UTF_8));
                stream.getFD().sync();
            }
            finished.put(cell + " " + round, line);
        }
        progress.turn(order.size(), order.size(), "");
        String run = "{\"schema_version\":1,\"run_id\":" + Json.quoted(id()) + ",\"job\":" + text.trim() + ",\"device\":" + json(phone.device())
                + ",\"harness\":" + json(phone.harness()) + ",\"runtimes\":{\"" + RUNTIME + "\":" + Json.quoted(OrtEnvironment.getEnvironment().getVersion())
                + "},\"environment\":{\"before\":" + new String(bytes(before), StandardCharsets.UTF_8) + ",\"after\":" + json(phone.snapshot())
                + "},\"rounds\":[" + joined(finished.values()) + "]}\n";
        write(record(), run);
        return record();
    }

    /** What the screen says of each cell, by its id: the median if its shown answers are right, or none are shown. */
    public Map<String, String> told() throws IOException {
        Map<?, ?> run = (Map<?, ?>) Json.parse(new String(bytes(record()), StandardCharsets.UTF_8), record().getName());
        Map<String, String> told = new LinkedHashMap<>();
        for (Map.Entry<String, Map<?, ?>> cell : cells.entrySet()) {
            List<Double> samples = new ArrayList<>();
            String error = null;
            String answers = null;
            int rounds = 0;
            for (Object one : (List<?>) run.get("rounds")) {
                Map<?, ?> round = (Map<?, ?>) one;
                if (!cell.getKey().equals(round.get("cell"))) continue;
                rounds++;
                if (round.get("error") != null && error == null) error = (String) round.get("error");
                if (round.get("answers") != null) answers = (String) round.get("answers");
                for (Object sample : (List<?>) round.get("samples_ns")) samples.add((Double) sample);
            }
            String count = rounds + " of " + number(protocol.get("rounds")) + " rounds";
            told.put(cell.getKey(), error != null ? error : BenchAnswers.told(cell.getValue(), folder, answers, median(samples) + count));
        }
        return told;
    }

    private static String median(List<Double> samples) {
        if (samples.isEmpty()) return "";
        Collections.sort(samples);
        double middle = (samples.get((samples.size() - 1) / 2) + samples.get(samples.size() / 2)) / 2;
        return String.format(java.util.Locale.ROOT, "%.3f ms, ", middle / 1e6);
    }

    /** One finished round as a line of the stream. */
    private String line(String id, int round, Phone phone) throws IOException {
        String head = "{\"run_id\":" + Json.quoted(id()) + ",\"cell\":" + Json.quoted(id) + ",\"round\":" + round;
        String body;
        double cooled = cool(phone);
        try {
            body = ",\"status\":\"done\"" + measured(cells.get(id), round);
        } catch (OrtException | IOException | RuntimeException error) {
            String said = error.getMessage() == null ? error.toString() : error.getMessage();
            body = ",\"status\":\"failed\",\"samples_ns\":[],\"error\":" + Json.quoted(said.replaceAll("\\s+", " "));
        }
        String state = phone.thermalState();
        String waited = cooled > 0 ? ",\"cooled_seconds\":" + cooled : "";
        return head + body + waited + ",\"thermal_state\":" + (state == null ? "null" : Json.quoted(state)) + "}";
    }

    /** Waits until the phone is cool, at most as long as the protocol says; seconds. */
    private double cool(Phone phone) {
        double most = real(protocol.get("cool_seconds"));
        long began = System.nanoTime();
        double waited = 0;
        while (waited < most && isWarm(phone)) {
            pause((long) (1e9 * Math.min(1, most - waited)));
            waited = (System.nanoTime() - began) / 1e9;
        }
        return waited;
    }

    private static boolean isWarm(Phone phone) {
        String state = phone.thermalState();
        return state != null && !state.equals("nominal");
    }

    private static void pause(long nanoseconds) {
        if (nanoseconds <= 0) return;
        try {
            Thread.sleep(nanoseconds / 1_000_000, (int) (nanoseconds % 1_000_000));
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }

    /** A number of the protocol that may be absent, which is 0. */
    private static double real(Object value) {
        return value instanceof Double ? (Double) value : 0;
    }

    private String measured(Map<?, ?> cell, int round) throws IOException, OrtException {
        Object backend = cell.get("backend");
        if (!RUNTIME.equals(cell.get("runtime")) || backend != null && !"cpu".equals(backend)) {
            throw new IOException("this app runs " + RUNTIME + " on the CPU, not " + cell.get("runtime") + (backend == null ? "" : " on " + backend));
        }
        File model = file(cell.get("file"));
        if (round == 0 && !sha256(model).equals(cell.get("sha256"))) throw new IOException(cell.get("file") + " did not arrive as it was sent");
        StringBuilder found = new StringBuilder();
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        try (OrtSession.SessionOptions options = options(cell)) {
            long began = System.nanoTime();
            OrtSession session = environment.createSession(model.getPath(), options);
            found.append(",\"load_first_ns\":").append(System.nanoTime() - began);
            try {
                if (round == 0) {  // one model is in memory at a time
                    session.close();
                    began = System.nanoTime();
                    session = environment.createSession(model.getPath(), options);
                    found.append(",\"load_again_ns\":").append(System.nanoTime() - began);
                }
                timed(environment, session, cell, round, found);
            } finally {
                session.close();
            }
        }
        return found.append(peak()).toString();
    }

    private void timed(OrtEnvironment environment, OrtSession session, Map<?, ?> cell, int round, StringBuilder found)
            throws IOException, OrtException {
        Map<?, ?> input = (Map<?, ?>) cell.get("input");
        String name = (String) input.get("name");
        Set<String> output = Collections.singleton((String) ((Map<?, ?>) cell.get("output")).get("name"));
        List<byte[]> examples = BenchAnswers.inputs(cell, folder, number(protocol.get("golden_inputs")));
        try (OnnxTensor first = tensor(environment, input, examples.get(0))) {
            Map<String, OnnxTensor> given = Collections.singletonMap(name, first);
            long began = System.nanoTime();
            session.run(given, output).close();
            found.append(",\"first_inference_ns\":").append(System.nanoTime() - began);
            if (round == 0 && cell.get("golden") != null) {
                found.append(",\"answers\":\"").append(answers(environment, session, input, output, examples)).append('"');
            }
            for (int i = 0; i < number(protocol.get("warm_up_iterations")); i++) session.run(given, output).close();
            long least = (long) (((Double) protocol.get("seconds_per_round")) * 1e9);
            long pace = (long) (1e6 * real(protocol.get("pace_milliseconds")));
            StringBuilder samples = new StringBuilder();
            began = System.nanoTime();
            for (int i = 0; i < number(protocol.get("iterations_per_round")) || System.nanoTime() - began < least; i++) {
                pause(began + i * pace - System.nanoTime());
                long start = System.nanoTime();
                OrtSession.Result result = session.run(given, output);
                long end = System.nanoTime();
                result.close();
                samples.append(i == 0 ? "" : ",").append(end - start);
            }
            found.append(",\"samples_ns\":[").append(samples).append(']');
        }
    }

    /** To all golden inputs, float32, little-endian, in base64. */
    private static String answers(OrtEnvironment environment, OrtSession session, Map<?, ?> input, Set<String> output, List<byte[]> examples)
            throws OrtException {
        ByteArrayOutputStream found = new ByteArrayOutputStream();
        for (byte[] example : examples) {
            try (OnnxTensor given = tensor(environment, input, example);
                    OrtSession.Result result = session.run(Collections.singletonMap((String) input.get("name"), given), output)) {
                FloatBuffer values = ((OnnxTensor) result.get(0)).getFloatBuffer();
                ByteBuffer raw = ByteBuffer.allocate(4 * values.remaining()).order(ByteOrder.LITTLE_ENDIAN);
                while (values.hasRemaining()) raw.putFloat(values.get());
                found.write(raw.array(), 0, raw.capacity());
            }
        }
        return Base64.getEncoder().encodeToString(found.toByteArray());
    }

    private static OnnxTensor tensor(OrtEnvironment environment, Map<?, ?> input, byte[] example) throws OrtException {
        List<?> sizes = (List<?>) input.get("shape");
        long[] shape = new long[sizes.size()];
        for (int i = 0; i < shape.length; i++) shape[i] = number(sizes.get(i));
        ByteBuffer raw = ByteBuffer.allocateDirect(example.length).order(ByteOrder.nativeOrder());  // little-endian on every phone
        raw.put(example).flip();
        return OnnxTensor.createTensor(environment, raw, shape, BenchAnswers.type((String) input.get("dtype")));
    }

    private static OrtSession.SessionOptions options(Map<?, ?> cell) throws OrtException {
        OrtSession.SessionOptions options = new OrtSession.SessionOptions();
        options.setIntraOpNumThreads(number(cell.get("threads")));
        options.setInterOpNumThreads(1);
        options.setExecutionMode(OrtSession.SessionOptions.ExecutionMode.SEQUENTIAL);
        Object entries = cell.get("options");
        if (entries != null) {
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) entries).entrySet()) options.addConfigEntry((String) entry.getKey(), (String) entry.getValue());
        }
        return options;
    }

    /** The kernel's own peak of this process; nothing if it reports none. */
    private static String peak() throws IOException {
        File status = new File("/proc/self/status");
        if (!status.canRead()) return "";
        try (BufferedReader lines = new BufferedReader(new FileReader(status))) {
            for (String line; (line = lines.readLine()) != null;) {
                if (line.startsWith("VmHWM:")) return ",\"peak_memory_bytes\":" + 1024 * Long.parseLong(line.replaceAll("\\D", ""));
            }
        }
        return "";
    }

    private File stream() throws IOException {
        return new File(results, id() + ".rounds.jsonl");
    }

    /** Lines of the stream that are whole, by cell and round; the rest of one that was cut off is dropped. */
    private Map<String, String> finished() throws IOException {
        Map<String, String> found = new LinkedHashMap<>();
        if (!stream().isFile()) return found;
        String all = new String(bytes(stream()), StandardCharsets.UTF_8);
        String whole = all.substring(0, all.lastIndexOf('\n') + 1);
        if (whole.length() < all.length()) write(stream(), whole);
        for (String line : whole.split("\n")) {
            if (line.isEmpty()) continue;
            Map<?, ?> round = (Map<?, ?>) Json.parse(line, stream().getName());
            if (!id().equals(round.get("run_id"))) throw new IOException(stream().getName() + " is of another run: delete it, run again");
            found.put(round.get("cell") + " " + number(round.get("round")), line);
        }
        return found;
    }

    private static boolean failed(Map<String, String> finished, String cell) {
        for (Map.Entry<String, String> one : finished.entrySet()) {
            if (one.getKey().startsWith(cell + " ") && one.getValue().contains("\"status\":\"failed\"")) return true;
        }
        return false;
    }

    private static String json(Object value) {
        List<String> parts = new ArrayList<>();
        if (value instanceof Map) {
            for (Map.Entry<?, ?> one : ((Map<?, ?>) value).entrySet()) parts.add(Json.quoted((String) one.getKey()) + ":" + json(one.getValue()));
            return "{" + joined(parts) + "}";
        }
        if (value instanceof List) {
            for (Object one : (List<?>) value) parts.add(json(one));
            return "[" + joined(parts) + "]";
        }
        return value instanceof String ? Json.quoted((String) value) : String.valueOf(value);
    }

    private static String joined(Iterable<String> lines) {
        StringBuilder found = new StringBuilder();
        for (String line : lines) found.append(found.length() == 0 ? "" : ",").append(line);
        return found.toString();
    }

    private File file(Object path) throws IOException {
        return new File(folder, matching(PATH, path));
    }

    static String matching(Pattern form, Object text) throws IOException {
        if (text instanceof String && form.matcher((String) text).matches()) return (String) text;
        throw new IOException(text + " in job.json is no name; write the job again");
    }

    static Pattern pathForm() {
        return PATH;
    }

    static Pattern identifierForm() {
        return IDENTIFIER;
    }

    static int number(Object value) {
        return ((Double) value).intValue();
    }

    static byte[] bytes(File file) throws IOException {
        byte[] found = new byte[(int) file.length()];
        try (InputStream stream = new FileInputStream(file)) {
            for (int at = 0, come; at < found.length; at += come) {
                come = stream.read(found, at, found.length - at);
                if (come < 0) throw new IOException(file + " became shorter while it was read");
            }
        }
        return found;
    }

    static String sha256(File file) throws IOException {
        try (InputStream stream = new FileInputStream(file)) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            byte[] part = new byte[1 << 16];
            for (int come; (come = stream.read(part)) >= 0;) digest.update(part, 0, come);
            StringBuilder found = new StringBuilder();
            for (byte one : digest.digest()) found.append(String.format("%02x", one));
            return found.toString();
        } catch (NoSuchAlgorithmException absent) {
            throw new IllegalStateException(absent);
        }
    }

    /** Writes a temporary file next to it, flushes it and renames it: whole or not at all. */
    static void write(File file, String text) throws IOException {
        File partial = new File(file.getPath() + ".partial");
        try (FileOutputStream stream = new FileOutputStream(partial)) {
            stream.write(text.getBytes(StandardCharsets.UTF_8));
            stream.getFD().sync();
        }
        if (!partial.renameTo(file)) throw new IOException(file + " cannot be written");
    }
}
