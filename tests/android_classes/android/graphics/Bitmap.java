package android.graphics;

import java.nio.Buffer;
import java.nio.ByteBuffer;

/** Of four bytes a pixel: red, green, blue, alpha. */
public final class Bitmap {
    public enum Config { ARGB_8888, HARDWARE }

    private final byte[] pixels;
    private final int width;
    private final Config config;

    /** Of tests alone. */
    public Bitmap(byte[] pixels, int width, Config config) {
        this.pixels = pixels;
        this.width = width;
        this.config = config;
    }

    public Bitmap copy(Config config, boolean mutable) { return new Bitmap(pixels, width, config); }
    public Config getConfig() { return config; }
    public int getByteCount() { return pixels.length; }
    public int getWidth() { return width; }
    public int getHeight() { return pixels.length / 4 / width; }

    public boolean hasAlpha() {
        for (int at = 3; at < pixels.length; at += 4) if (pixels[at] != -1) return true;
        return false;
    }

    public void copyPixelsToBuffer(Buffer into) {
        readable();
        ((ByteBuffer) into).put(pixels);
    }

    public void getPixels(int[] into, int offset, int stride, int x, int y, int width, int height) {
        readable();
        for (int row = 0, at = 4 * (y * this.width + x); row < height; row++, at += 4 * this.width) {
            for (int column = 0, from = at; column < width; column++, from += 4) {
                into[offset + row * stride + column] = pixels[from + 3] << 24 | (pixels[from] & 255) << 16
                        | (pixels[from + 1] & 255) << 8 | pixels[from + 2] & 255;
            }
        }
    }

    private void readable() {
        if (config == Config.HARDWARE) throw new IllegalStateException("unable to getPixels(), pixel access is not supported");
    }
}
