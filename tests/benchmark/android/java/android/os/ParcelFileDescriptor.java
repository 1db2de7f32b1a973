package android.os;

import java.io.FilterInputStream;
import java.io.InputStream;

public class ParcelFileDescriptor {
    private final InputStream stream;

    public ParcelFileDescriptor(InputStream stream) {
        this.stream = stream;
    }

    public static class AutoCloseInputStream extends FilterInputStream {
        public AutoCloseInputStream(ParcelFileDescriptor descriptor) {
            super(descriptor.stream);
        }
    }
}
