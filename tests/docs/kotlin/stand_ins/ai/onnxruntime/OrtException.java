package ai.onnxruntime;

public class OrtException extends Exception {
    public OrtException(String text) { super(text); }
}
