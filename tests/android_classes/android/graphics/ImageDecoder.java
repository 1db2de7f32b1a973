package android.graphics;

import android.content.ContentResolver;
import android.net.Uri;
import java.io.IOException;

public final class ImageDecoder {
    public abstract static class Source {
        private Source() {}
    }

    private ImageDecoder() {}

    public static Source createSource(ContentResolver from, Uri address) { return null; }
    public static Bitmap decodeBitmap(Source source) throws IOException { throw new IOException(); }
}
