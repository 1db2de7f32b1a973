package ai.onnxruntime;

import java.nio.ByteBuffer;

public class OnnxTensor extends OnnxTensorLike {
    final ByteBuffer data;
    final long[] shape;

    private OnnxTensor(ByteBuffer data, long[] shape) {
        this.data = data;
        this.shape = shape;
    }

    public static OnnxTensor createTensor(OrtEnvironment env, ByteBuffer data, long[] shape, OnnxJavaType type)
            throws OrtException {
        long count = 1;
        for (long size : shape) count *= size;
        if (data.remaining() != count) throw new OrtException(data.remaining() + " bytes for " + count);
        return new OnnxTensor(data, shape);
    }

    @Override public Object getValue() { return data; }
    @Override public void close() {}
}
