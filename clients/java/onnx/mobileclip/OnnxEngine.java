package mobileclip;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.File;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.util.Collections;

/** Runs a bundle's towers on ONNX Runtime, whose telemetry is switched off. What it throws is a MobileCLIPException. */
public final class OnnxEngine implements Engine {
    private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
    private final OrtSession.SessionOptions options;

    public OnnxEngine() {
        this(new OrtSession.SessionOptions());
    }

    /** {@code options}: threads, NNAPI or other providers; the app closes them. */
    public OnnxEngine(OrtSession.SessionOptions options) {
        this.options = options;
        try {
            environment.setTelemetry(false);
        } catch (OrtException failed) {
            throw refused("ONNX Runtime's telemetry cannot be switched off", failed);
        }
    }

    @Override
    public String target() {
        return "onnx";
    }

    @Override
    public Model open(BundleFiles bundle, String name) {
        File file = bundle.file(name);
        try {
            return new Tower(file != null ? environment.createSession(file.getPath(), options)
                    : environment.createSession(bundle.read(name), options));
        } catch (OrtException | IOException failed) {
            throw refused(name + " cannot be loaded", failed);
        }
    }

    // A newer model than the runtime reads says so itself: there another runtime helps, and not another export.
    private static MobileCLIPException refused(String what, Exception cause) {
        boolean old = String.valueOf(cause.getMessage()).contains("IR version");
        String hint = old ? "update ONNX Runtime" : "export the bundle again";
        return new MobileCLIPException(MobileCLIPException.Code.BUNDLE, what + " (" + cause.getMessage() + "): " + hint, cause);
    }

    private final class Tower implements Model {
        private final OrtSession session;

        Tower(OrtSession session) {
            this.session = session;
        }

        @Override
        public float[] run(String input, Object values, long[] shape, String output) {
            try (OnnxTensor given = tensor(values, shape);
                    OrtSession.Result found = session.run(Collections.singletonMap(input, given), Collections.singleton(output))) {
                FloatBuffer answer = ((OnnxTensor) found.get(0)).getFloatBuffer();
                float[] copied = new float[answer.remaining()];
                answer.get(copied);
                return copied;
            } catch (OrtException failed) {
                throw refused("a tower failed", failed);
            }
        }

        private OnnxTensor tensor(Object values, long[] shape) throws OrtException {
            if (values instanceof float[]) return OnnxTensor.createTensor(environment, FloatBuffer.wrap((float[]) values), shape);
            if (values instanceof int[]) return OnnxTensor.createTensor(environment, IntBuffer.wrap((int[]) values), shape);
            return OnnxTensor.createTensor(environment, LongBuffer.wrap((long[]) values), shape);
        }

        @Override
        public void close() {
            try {
                session.close();
            } catch (OrtException failed) {
                throw refused("a tower cannot be closed", failed);
            }
        }
    }
}
