package android.content;

import android.os.Parcelable;

public class Intent {
    public static final String EXTRA_STREAM = "android.intent.extra.STREAM";

    @Deprecated public <T extends Parcelable> T getParcelableExtra(String name) { return null; }
}
