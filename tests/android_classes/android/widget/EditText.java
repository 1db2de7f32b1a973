package android.widget;

import android.content.Context;
import android.text.Editable;

public class EditText extends TextView {
    private static final class Typed implements Editable {
        private final CharSequence text;

        private Typed(CharSequence text) {
            this.text = text;
        }

        @Override
        public int length() {
            return text.length();
        }

        @Override
        public char charAt(int index) {
            return text.charAt(index);
        }

        @Override
        public CharSequence subSequence(int start, int end) {
            return text.subSequence(start, end);
        }

        @Override
        public String toString() {
            return text.toString();
        }
    }

    public EditText(Context context) {
        super(context);
    }

    @Override
    public Editable getText() {
        return new Typed(super.getText());
    }
}
