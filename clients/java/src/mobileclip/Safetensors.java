package mobileclip;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.Charset;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Reads a .safetensors file: the types that golden answers, backgrounds and labels have. */
final class Safetensors {
    /** One tensor: float[] of F32, int[] of I32 and U8 (0 to 255), byte[] of I8. */
    static final class Tensor {
        final String dtype;
        final int[] shape;
        final Object data;

        Tensor(String dtype, int[] shape, Object data) {
            this.dtype = dtype;
            this.shape = shape;
            this.data = data;
        }

        boolean is(String dtype, int... shape) {
            return this.dtype.equals(dtype) && java.util.Arrays.equals(this.shape, shape);
        }
    }

    final Map<String, Tensor> tensors;
    /** The golden texts; null where the file names none. */
    final List<?> prompts;
    final Map<?, ?> metadata;

    private Safetensors(Map<String, Tensor> tensors, Map<?, ?> metadata, List<?> prompts) {
        this.tensors = tensors;
        this.metadata = metadata;
        this.prompts = prompts;
    }

    static Safetensors parse(byte[] bytes, String file) {
        try {
            ByteBuffer buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
            long told = buffer.getLong();
            if (told < 0 || told > bytes.length - 8) throw new IndexOutOfBoundsException(file);
            int length = (int) told;
            Object header = Json.parse(new String(bytes, 8, length, Charset.forName("UTF-8")), file);
            Map<String, Tensor> tensors = new HashMap<>();
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) header).entrySet()) {
                if (entry.getKey().equals("__metadata__")) continue;
                tensors.put((String) entry.getKey(), tensor((Map<?, ?>) entry.getValue(), buffer, 8 + length));
            }
            Map<?, ?> metadata = (Map<?, ?>) ((Map<?, ?>) header).get("__metadata__");
            Object prompts = metadata == null ? null : metadata.get("prompts");
            return new Safetensors(tensors, metadata, prompts == null ? null : (List<?>) Json.parse((String) prompts, file));
        } catch (IndexOutOfBoundsException | java.nio.BufferUnderflowException | IllegalArgumentException
                | ClassCastException | NullPointerException damaged) {
            throw new MobileCLIPException(
                    MobileCLIPException.Code.BUNDLE, file + " is damaged: export the bundle again", damaged);
        }
    }

    private static Tensor tensor(Map<?, ?> told, ByteBuffer buffer, int start) {
        String dtype = (String) told.get("dtype");
        long[] sides = wholes(told.get("shape"));
        int[] shape = new int[sides.length];
        int width = dtype.endsWith("8") ? 1 : 4;
        long size = width;
        for (int index = 0; index < shape.length; index++) {
            size *= sides[index];
            if (sides[index] > Integer.MAX_VALUE || size > buffer.capacity()) throw new IndexOutOfBoundsException(dtype);
            shape[index] = (int) sides[index];
        }
        long[] offsets = wholes(told.get("data_offsets"));
        if (offsets.length != 2 || offsets[1] > buffer.capacity() - start || offsets[1] - offsets[0] != size) {
            throw new IndexOutOfBoundsException(dtype);
        }
        buffer.position(start + (int) offsets[0]);
        long count = size / width;
        if (dtype.equals("F32")) {
            float[] data = new float[(int) count];
            buffer.asFloatBuffer().get(data);
            return new Tensor(dtype, shape, data);
        }
        if (dtype.equals("I8")) {
            byte[] data = new byte[(int) count];
            buffer.get(data);
            return new Tensor(dtype, shape, data);
        }
        int[] data = new int[(int) count];
        if (dtype.equals("I32")) {
            buffer.asIntBuffer().get(data);
        } else if (dtype.equals("U8")) {
            for (int index = 0; index < count; index++) data[index] = buffer.get() & 255;
        } else {
            throw new IllegalArgumentException(dtype);
        }
        return new Tensor(dtype, shape, data);
    }

    private static long[] wholes(Object list) {
        List<?> all = (List<?>) list;
        long[] found = new long[all.size()];
        for (int index = 0; index < found.length; index++) {
            double one = (Double) all.get(index);
            if (!(one >= 0 && one == Math.rint(one) && one < 1L << 53)) throw new IllegalArgumentException("an offset or a side");
            found[index] = (long) one;
        }
        return found;
    }
}
