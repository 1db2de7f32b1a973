package mobileclip;

import java.awt.image.BufferedImage;
import java.awt.image.IndexColorModel;
import java.awt.image.Raster;
import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Iterator;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.stream.ImageInputStream;

/** Pictures that javax.imageio reads, on desktops and servers: the values that the file stores, as Python uses them.
 * {@code BufferedImage.getRGB} gives others: it turns grey, 16 bits and embedded profiles into sRGB. */
public final class ImageFiles {
    private ImageFiles() {}

    /** A picture file, upright by its EXIF; JPEG in CMYK, too. PICTURE where it is none. */
    public static Picture read(File file) {
        try (DataInputStream stream = new DataInputStream(new FileInputStream(file))) {
            byte[] content = new byte[(int) file.length()];
            stream.readFully(content);
            return read(content, file.getName());
        } catch (IOException unread) {
            throw refused(file.getName() + " cannot be read: " + unread.getMessage(), unread);
        }
    }

    private static Picture read(byte[] content, String name) {
        try (ImageInputStream stream = ImageIO.createImageInputStream(new ByteArrayInputStream(content))) {
            Iterator<ImageReader> readers = ImageIO.getImageReaders(stream);
            if (!readers.hasNext()) throw refused(name + " is not a picture of a format that Java reads", null);
            ImageReader reader = readers.next();
            try {
                reader.setInput(stream);
                // A JPEG's own numbers: `read` would turn those of a profile into sRGB.
                Picture found = isJpeg(content) ? ofJpeg(reader.readRaster(0, null), content) : of(reader.read(0));
                return found.upright(orientation(content));
            } finally {
                reader.dispose();
            }
        } catch (IOException | RuntimeException damaged) {
            if (damaged instanceof MobileCLIPException) throw (MobileCLIPException) damaged;
            throw refused(name + " is not a picture that Java can read: " + damaged.getMessage(), damaged);
        }
    }

    /** A picture in memory; without EXIF, which a BufferedImage does not have: {@code upright(orientation)} turns it. */
    public static Picture of(BufferedImage image) {
        int width = image.getWidth();
        int height = image.getHeight();
        Raster raster = image.getRaster();
        int bands = raster.getNumBands();
        if (image.getColorModel() instanceof IndexColorModel || image.isAlphaPremultiplied() || bands > 4) {
            return Picture.argb(image.getRGB(0, 0, width, height, null, 0, width), width, height);
        }
        int depth = raster.getSampleModel().getSampleSize(0);
        if (depth == 16 && bands == 1) return Picture.of(Picture.Layout.GREY16, words(raster), width, height);
        byte[] samples = samples(raster, depth);
        if (bands == 1) return Picture.of(Picture.Layout.GREY, samples, width, height);
        if (bands == 2) return Picture.of(Picture.Layout.RGBA, spread(samples), width, height);
        return Picture.of(bands == 3 ? Picture.Layout.RGB : Picture.Layout.RGBA, samples, width, height);
    }

    // Of 16 bits the upper 8; of 1 to 7 bits all of the range.
    private static byte[] samples(Raster raster, int depth) {
        int[] row = new int[raster.getWidth() * raster.getNumBands()];
        byte[] found = new byte[row.length * raster.getHeight()];
        for (int y = 0, to = 0; y < raster.getHeight(); y++) {
            raster.getPixels(0, y, raster.getWidth(), 1, row);
            for (int one : row) found[to++] = (byte) (depth < 8 ? one * 255 / ((1 << depth) - 1) : one >> depth - 8);
        }
        return found;
    }

    private static byte[] words(Raster raster) {
        int[] row = new int[raster.getWidth()];
        ByteBuffer found = ByteBuffer.allocate(2 * row.length * raster.getHeight()).order(ByteOrder.LITTLE_ENDIAN);
        for (int y = 0; y < raster.getHeight(); y++) {
            for (int one : raster.getPixels(0, y, row.length, 1, row)) found.putShort((short) one);
        }
        return found.array();
    }

    // Grey and alpha to RGBA.
    private static byte[] spread(byte[] samples) {
        byte[] found = new byte[2 * samples.length];
        for (int from = 0, to = 0; from < samples.length; from += 2, to += 4) {
            found[to] = found[to + 1] = found[to + 2] = samples[from];
            found[to + 3] = samples[from + 1];
        }
        return found;
    }

    // A JPEG's four inks, which Adobe's programs store inverted; as Y, Cb, Cr and black where `ycck` says so.
    private static Picture ofInks(Raster raster, boolean ycck) {
        byte[] inks = samples(raster, 8);
        int pixels = inks.length / 4;
        if (ycck) {
            byte[] colours = new byte[3 * pixels];
            for (int pixel = 0; pixel < pixels; pixel++) System.arraycopy(inks, 4 * pixel, colours, 3 * pixel, 3);
            byte[] rgb = Picture.of(Picture.Layout.YCBCR, colours, raster.getWidth(), raster.getHeight()).rgb;
            for (int pixel = 0; pixel < pixels; pixel++) {
                for (int channel = 0; channel < 3; channel++) inks[4 * pixel + channel] = (byte) ~rgb[3 * pixel + channel];
            }
        }
        for (int at = 0; at < inks.length; at++) inks[at] = (byte) ~inks[at];
        return Picture.of(Picture.Layout.CMYK, inks, raster.getWidth(), raster.getHeight());
    }

    private static boolean isJpeg(byte[] content) {
        return content.length > 4 && (content[0] & 255) == 0xff && (content[1] & 255) == 0xd8;
    }

    private static Picture ofJpeg(Raster raster, byte[] content) {
        boolean changed = isChanged(content, raster.getNumBands());
        if (raster.getNumBands() == 4) return ofInks(raster, changed);
        byte[] samples = samples(raster, 8);
        Picture.Layout layout = raster.getNumBands() == 1 ? Picture.Layout.GREY : changed ? Picture.Layout.YCBCR : Picture.Layout.RGB;
        return Picture.of(layout, samples, raster.getWidth(), raster.getHeight());
    }

    // Whether colours are stored as Y, Cb and Cr: by libjpeg's rules.
    private static boolean isChanged(byte[] content, int bands) {
        boolean jfif = false;
        int transform = -1;
        for (int at = 2; at + 9 < content.length && (content[at] & 255) == 0xff; ) {
            int marker = content[at + 1] & 255;
            int length = (content[at + 2] & 255) << 8 | content[at + 3] & 255;
            if (marker == 0xe0 && content[at + 4] == 'J' && content[at + 5] == 'F') jfif = true;
            if (marker == 0xee && at + 15 < content.length && content[at + 4] == 'A') transform = content[at + 15];
            boolean frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
            if (frame) {
                if (bands == 4) return transform == 2;
                boolean named = at + 16 < content.length && content[at + 10] == 'R' && content[at + 13] == 'G' && content[at + 16] == 'B';
                return jfif || (transform < 0 ? !named : transform != 0);
            }
            at += 2 + length;
        }
        return bands == 3;
    }

    /** EXIF's orientation of a JPEG or PNG, 1 to 8; 1 where the file says none. */
    static int orientation(byte[] content) {
        if (isJpeg(content)) {
            for (int at = 2; at + 10 < content.length && (content[at] & 255) == 0xff && (content[at + 1] & 255) != 0xda; ) {
                int length = (content[at + 2] & 255) << 8 | content[at + 3] & 255;
                boolean exif = (content[at + 1] & 255) == 0xe1 && content[at + 4] == 'E' && content[at + 5] == 'x';
                if (exif) return ofExif(content, at + 10, at + 2 + length);
                at += 2 + length;
            }
            return 1;
        }
        ByteBuffer chunks = ByteBuffer.wrap(content);
        for (long at = 8; at + 12 <= content.length && content[1] == 'P' && content[2] == 'N'; ) {
            long length = chunks.getInt((int) at) & 0xffffffffL;
            if (chunks.getInt((int) at + 4) == 0x65584966) return ofExif(content, (int) at + 8, (int) Math.min(content.length, at + 8 + length));
            at += 12 + length;
        }
        return 1;
    }

    // The tag 274 of the first directory.
    private static int ofExif(byte[] content, int from, int to) {
        if (to > content.length || to - from < 8) return 1;
        ByteBuffer exif = ByteBuffer.wrap(content, from, to - from).slice();
        exif.order(exif.get(0) == 'I' ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN);
        int at = exif.getInt(4);
        if (at < 8 || at > exif.limit() - 2) return 1;
        int count = exif.getShort(at) & 0xffff;
        for (int entry = at + 2; count > 0 && entry + 12 <= exif.limit(); entry += 12, count--) {
            if (exif.getShort(entry) == 274) return exif.getShort(entry + 8);
        }
        return 1;
    }

    private static MobileCLIPException refused(String what, Throwable cause) {
        return new MobileCLIPException(MobileCLIPException.Code.PICTURE, what, cause);
    }
}
