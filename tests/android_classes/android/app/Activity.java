package android.app;

import android.content.ContentResolver;
import android.content.Context;
import android.content.Intent;
import android.content.res.AssetManager;
import android.os.Bundle;
import android.widget.TextView;

/** What the sample of clients/kotlin is compiled against; nothing runs it. */
public class Activity extends Context {
    protected void onCreate(Bundle savedInstanceState) {}
    public void setContentView(TextView view) {}
    public Intent getIntent() { return null; }
    public final void runOnUiThread(Runnable action) {}
    @Override public AssetManager getAssets() { return null; }
    @Override public ContentResolver getContentResolver() { return null; }
}
