package mobileclip;

/** What goes wrong, by a code that an app can branch on; the message is one sentence for a person. */
public final class MobileCLIPException extends RuntimeException {
    /** The kinds of errors, the same in the packages of every language. */
    public enum Code {
        /** A bundle that is missing, damaged or not understood. */
        BUNDLE,
        /** A file that a newer version wrote. */
        NEWER,
        /** Embeddings of another space. */
        SPACE,
        /** What is no picture. */
        PICTURE,
        /** Values outside [0, 1]. */
        RANGE,
        /** A request that has no answer: an embedding with NaN, fewer than one match, labels that are one prompt. */
        QUERY,
        /** An index that is damaged or not understood. */
        INDEX,
        /** Work that the app ended. */
        CANCELLED
    }

    private static final long serialVersionUID = 1;
    public final Code code;

    public MobileCLIPException(Code code, String message) {
        super(message);
        this.code = code;
    }

    public MobileCLIPException(Code code, String message, Throwable cause) {
        super(message, cause);
        this.code = code;
    }
}
