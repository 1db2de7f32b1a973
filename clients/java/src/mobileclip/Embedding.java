package mobileclip;

/** An embedding of length 1, and the space that it belongs to. */
public class Embedding {
    /** The numbers [D]. */
    public final float[] values;
    /** Embeddings of spaces with other names cannot be compared. */
    public final String embeddingSpace;

    public Embedding(float[] values, String embeddingSpace) {
        this.values = values;
        this.embeddingSpace = embeddingSpace;
    }

    @Override
    public String toString() {
        return getClass().getSimpleName() + " of " + values.length + " numbers in " + embeddingSpace;
    }

    /** Refuses an embedding of another space than {@code space}, which is {@code whose}. */
    void check(String space, String whose) {
        if (embeddingSpace.equals(space)) return;
        throw new MobileCLIPException(
                MobileCLIPException.Code.SPACE,
                "the embedding is of " + embeddingSpace + " and " + whose + " of " + space + ": they cannot be compared");
    }

    /** The embedding of a text. */
    public static final class Text extends Embedding {
        /** How many tokens the text has, start and end included. */
        public final int tokens;
        /** Whether it has more tokens than the network reads. */
        public final boolean cut;
        /** What was left out then, as the tokenizer cleaned it; else empty. */
        public final String rest;

        Text(float[] values, String embeddingSpace, Tokenizer.Ids ids) {
            super(values, embeddingSpace);
            tokens = ids.tokens;
            cut = ids.tokens > ids.ids.length;
            rest = ids.rest;
        }
    }
}
