package android.graphics;

import java.nio.Buffer;
import java.nio.ByteBuffer;

/** What Android declares of it, of four bytes a pixel. */
public final class Bitmap {
    public enum Config { ARGB_8888 }

    private final byte[] pixels;
    private final int width;

    public Bitmap(byte[] pixels, int width) {
        this.pixels = pixels;
        this.width = width;
    }

    public Bitmap copy(Config config, boolean mutable) { return this; }
    public int getByteCount() { return pixels.length; }
    public int getWidth() { return width; }
    public int getHeight() { return pixels.length / 4 / width; }
    public void copyPixelsToBuffer(Buffer into) { ((ByteBuffer) into).put(pixels); }
}
