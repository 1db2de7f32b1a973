package ai.onnxruntime;

public final class OrtEnvironment implements AutoCloseable {
    private static final OrtEnvironment ONE = new OrtEnvironment();

    public static OrtEnvironment getEnvironment() { return ONE; }
    public OrtSession createSession(byte[] model) throws OrtException { return new OrtSession(model); }
    @Override public void close() {}
}
