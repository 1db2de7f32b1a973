package android.os;

import android.StandIn;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;

public class ParcelFileDescriptor implements Parcelable {
    private final InputStream stream;

    @StandIn
    public ParcelFileDescriptor(InputStream stream) {
        this.stream = stream;
    }

    public static class AutoCloseInputStream extends FileInputStream {
        private final InputStream stream;

        public AutoCloseInputStream(ParcelFileDescriptor pfd) {
            super(new FileDescriptor());
            stream = pfd.stream;
        }

        @Override
        public int read() throws IOException {
            return stream.read();
        }

        @Override
        public int read(byte[] b, int off, int len) throws IOException {
            return stream.read(b, off, len);
        }

        @Override
        public int available() throws IOException {
            return stream.available();
        }

        @Override
        public void close() throws IOException {
            stream.close();
        }
    }
}
