package android.widget;

import android.content.Context;

public class TextView {
    public TextView(Context context) {}
    public final void setText(CharSequence text) {}
    public CharSequence getText() { return ""; }
}
