package android.content;

import android.net.Uri;
import android.os.Parcelable;
import java.util.Map;
import java.util.TreeMap;

public class Intent implements Parcelable {
    public static final String ACTION_CHOOSER = "android.intent.action.CHOOSER";
    public static final String ACTION_SEND = "android.intent.action.SEND";
    public static final String EXTRA_INTENT = "android.intent.extra.INTENT";
    public static final String EXTRA_STREAM = "android.intent.extra.STREAM";
    public static final int FLAG_GRANT_READ_URI_PERMISSION = 1;

    private final String action;
    private final Map<String, Object> extras = new TreeMap<>();
    private String type;
    private Uri data;
    private int flags;

    public Intent() {
        this(null);
    }

    public Intent(String action) {
        this.action = action;
    }

    public static Intent createChooser(Intent target, CharSequence title) {
        return new Intent(ACTION_CHOOSER).putExtra(EXTRA_INTENT, target);
    }

    public Intent setData(Uri data) {
        this.data = data;
        return this;
    }

    public Uri getData() {
        return data;
    }

    public Intent setType(String type) {
        this.type = type;
        return this;
    }

    public Intent putExtra(String name, Parcelable value) {
        extras.put(name, value);
        return this;
    }

    public Intent addFlags(int flags) {
        this.flags |= flags;
        return this;
    }

    @Deprecated
    @SuppressWarnings("unchecked")
    public <T extends Parcelable> T getParcelableExtra(String name) {
        return (T) extras.get(name);
    }

    @Override
    public String toString() {
        return action + " " + type + " " + flags + " " + extras;
    }
}
