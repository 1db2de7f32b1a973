package mobileclip;

/** A picture's RGB bytes, as the Python package makes them from a decoder's output; a colour profile is ignored. */
public final class Picture {
    /** What lies where in a decoder's or a camera's bytes, row by row; clients/vectors/pictures.json has each. */
    public enum Layout {
        RGB(3),
        /** Transparent pixels are drawn on white; colours are not multiplied by alpha. */
        RGBA(4),
        BGRA(4),
        GREY(1),
        /** Two bytes, the lower first. */
        GREY16(2),
        /** Two bytes a channel, the lower first. */
        RGB16(6),
        CMYK(4),
        YCBCR(3),
        /** A plane of luma, then pairs of Cb and Cr, each for two by two pixels. */
        NV12(0);

        private final int width;

        Layout(int width) {
            this.width = width;
        }

        long bytes(long width, long height) {
            return this == NV12 ? width * height + (width + 1) / 2 * ((height + 1) / 2) * 2 : this.width * width * height;
        }
    }

    /** How YCBCR and NV12 become RGB: times 65,536, what luma counts, Cr in red, Cb in green, Cr in green, Cb in blue. */
    public enum Colour {
        /** JPEG's. */
        BT601_FULL(0, 65536, 91881, 22554, 46802, 116130),
        BT601_VIDEO(16, 76309, 104597, 25675, 53279, 132201),
        BT709_FULL(0, 65536, 103206, 12276, 30679, 121609),
        BT709_VIDEO(16, 76309, 117489, 13975, 34925, 138438);

        private final int black;
        private final int[] steps;

        Colour(int black, int... steps) {
            this.black = black;
            this.steps = steps;
        }
    }

    /** Row by row [height, width, 3]. */
    final byte[] rgb;
    public final int width;
    public final int height;

    private Picture(byte[] rgb, int width, int height) {
        this.rgb = rgb;
        this.width = width;
        this.height = height;
    }

    /** A picture of bytes, row by row without gaps; YCBCR and NV12 as JPEG has them. */
    public static Picture of(Layout layout, byte[] data, int width, int height) {
        return of(layout, data, width, height, Colour.BT601_FULL);
    }

    /** A picture of bytes, row by row without gaps; {@code colour}: of YCBCR and NV12. */
    public static Picture of(Layout layout, byte[] data, int width, int height, Colour colour) {
        if (width < 1 || height < 1 || data.length != layout.bytes(width, height)) {
            throw none(data.length + " bytes are no picture of " + width + " x " + height + " in " + layout);
        }
        if (layout == Layout.RGB) return new Picture(data, width, height);
        byte[] found = made(width, height);
        for (int index = 0, to = 0, at = 0; to < found.length; index++, to += 3, at += layout.width) {
            switch (layout) {
                case RGBA:
                case BGRA:
                    int red = layout == Layout.RGBA ? 0 : 2;
                    onWhite(found, to, value(data, at + red), value(data, at + 1), value(data, at + 2 - red), value(data, at + 3));
                    break;
                case GREY:
                    found[to] = found[to + 1] = found[to + 2] = data[at];
                    break;
                case GREY16:
                    int grey = ((value(data, at) | value(data, at + 1) << 8) * 255 + 32767) / 65535;
                    found[to] = found[to + 1] = found[to + 2] = (byte) grey;
                    break;
                case CMYK:
                    int light = 255 - value(data, at + 3);
                    for (int channel = 0; channel < 3; channel++) {
                        int ink = value(data, at + channel) * light + 128;
                        found[to + channel] = (byte) Math.max(0, light - (((ink >> 8) + ink) >> 8));
                    }
                    break;
                case NV12:
                    int pair = width * height + index / width / 2 * ((width + 1) / 2) * 2 + index % width / 2 * 2;
                    ycbcr(found, to, colour, value(data, index), value(data, pair), value(data, pair + 1));
                    break;
                case YCBCR:
                    ycbcr(found, to, colour, value(data, at), value(data, at + 1), value(data, at + 2));
                    break;
                default: // RGB16
                    for (int channel = 0; channel < 3; channel++) found[to + channel] = data[at + 2 * channel + 1];
            }
        }
        return new Picture(found, width, height);
    }

    /** Pixels 0xAARRGGBB, row by row, as Android's Bitmap.getPixels gives them: colours are not multiplied by alpha. */
    public static Picture argb(int[] pixels, int width, int height) {
        if (width < 1 || height < 1 || pixels.length != (long) width * height) {
            throw none(pixels.length + " pixels are no picture of " + width + " x " + height);
        }
        byte[] found = made(width, height);
        for (int index = 0, to = 0; index < pixels.length; index++, to += 3) {
            int pixel = pixels[index];
            onWhite(found, to, pixel >> 16 & 255, pixel >> 8 & 255, pixel & 255, pixel >>> 24);
        }
        return new Picture(found, width, height);
    }

    /** The picture as a person sees it. {@code orientation}: EXIF's, 1 to 8; any other number turns nothing. */
    public Picture upright(int orientation) {
        if (orientation < 2 || orientation > 8) return this;
        boolean turned = orientation >= 5;
        boolean mirrored = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
        boolean upsideDown = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
        int across = turned ? height : width;
        int down = turned ? width : height;
        byte[] found = new byte[rgb.length];
        for (int y = 0, to = 0; y < down; y++) {
            for (int x = 0; x < across; x++, to += 3) {
                int column = turned ? y : x;
                int row = turned ? x : y;
                if (mirrored) column = width - 1 - column;
                if (upsideDown) row = height - 1 - row;
                int from = 3 * (row * width + column);
                found[to] = rgb[from];
                found[to + 1] = rgb[from + 1];
                found[to + 2] = rgb[from + 2];
            }
        }
        return new Picture(found, across, down);
    }

    private static byte[] made(int width, int height) {
        long bytes = 3L * width * height;
        if (bytes > Integer.MAX_VALUE - 8) throw none("more pixels than an array holds: scale the picture down first");
        return new byte[(int) bytes];
    }

    private static int value(byte[] data, int at) {
        return data[at] & 255;
    }

    private static void onWhite(byte[] found, int to, int red, int green, int blue, int alpha) {
        found[to] = blended(red, alpha);
        found[to + 1] = blended(green, alpha);
        found[to + 2] = blended(blue, alpha);
    }

    // Pillow's alpha_composite over opaque white, in its integers (AlphaComposite.c): seven more bits, and a division by
    // 255 that is rounded.
    private static byte blended(int value, int alpha) {
        if (alpha == 255) return (byte) value;
        int sum = (value * alpha + 255 * (255 - alpha)) * 128 + (128 << 7);
        return (byte) ((((sum >> 8) + sum) >> 8) >> 7);
    }

    private static void ycbcr(byte[] found, int to, Colour colour, int luma, int cb, int cr) {
        int[] steps = colour.steps;
        int y = steps[0] * (luma - colour.black) + (1 << 15);
        found[to] = clip(y + steps[1] * (cr - 128));
        found[to + 1] = clip(y - steps[2] * (cb - 128) - steps[3] * (cr - 128));
        found[to + 2] = clip(y + steps[4] * (cb - 128));
    }

    private static byte clip(int sum) {
        return (byte) Math.max(0, Math.min(255, sum >> 16));
    }

    private static MobileCLIPException none(String what) {
        return new MobileCLIPException(MobileCLIPException.Code.PICTURE, what);
    }
}
