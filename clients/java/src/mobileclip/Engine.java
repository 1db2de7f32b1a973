package mobileclip;

/** What runs the towers' model files: ONNX Runtime, or another. Several calls never come at once. */
public interface Engine {
    /** What bundles it takes: onnx, or executorch, litert for an engine of the app's own. */
    String target();

    /** Opens a model: {@code bundle.file(name)} where it lies in a folder, else {@code bundle.read(name)}. */
    Model open(BundleFiles bundle, String name);

    /** A loaded tower. */
    interface Model extends AutoCloseable {
        /**
         * The values of the output of this name.
         *
         * @param values float[] for dtype float32, int[] for int32, long[] for int64
         * @param shape of the input, whose first dimension is 1
         */
        float[] run(String input, Object values, long[] shape, String output);

        @Override
        void close();
    }
}
