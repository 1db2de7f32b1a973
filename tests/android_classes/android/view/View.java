package android.view;

import android.StandIn;
import android.content.Context;

/** As on a phone, no thread but its own touches a view. */
public class View {
    public interface OnClickListener {
        void onClick(View v);
    }

    ViewGroup parent;
    private final Thread screen = Thread.currentThread();
    private OnClickListener listener;
    private boolean enabled = true;

    public View(Context context) {}

    public void setOnClickListener(OnClickListener l) {
        touched();
        listener = l;
    }

    public boolean performClick() {
        touched();
        if (listener == null) return false;
        listener.onClick(this);
        return true;
    }

    public void setEnabled(boolean enabled) {
        touched();
        this.enabled = enabled;
    }

    public boolean isEnabled() {
        return enabled;
    }

    public void setPadding(int left, int top, int right, int bottom) {
        touched();
    }

    /** Throws android.view.ViewRootImpl.CalledFromWrongThreadException's message. */
    @StandIn
    protected final void touched() {
        if (Thread.currentThread() != screen) {
            throw new RuntimeException("Only the original thread that created a view hierarchy can touch its views.");
        }
    }
}
