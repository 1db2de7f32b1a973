package android.widget;

import android.content.Context;

public class TextView extends android.view.View {
    public TextView(Context context) {}
    public final void setText(CharSequence text) {}
    public CharSequence getText() { return ""; }
}
