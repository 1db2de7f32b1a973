package android.widget;

import android.content.Context;
import android.view.View;

public class TextView extends View {
    private CharSequence text = "";
    private CharSequence hint = "";

    public TextView(Context context) {
        super(context);
    }

    public final void setText(CharSequence text) {
        touched();
        this.text = text;
    }

    public CharSequence getText() {
        return text;
    }

    public final void setHint(CharSequence hint) {
        touched();
        this.hint = hint;
    }

    public CharSequence getHint() {
        return hint;
    }

    public void setTextIsSelectable(boolean selectable) {
        touched();
    }
}
