package android.app;

import android.content.ContentResolver;
import android.content.Context;
import android.content.Intent;
import android.content.res.AssetManager;
import android.os.Bundle;
import android.view.View;

/** What Android declares of it. */
public class Activity extends Context {
    protected void onCreate(Bundle state) {}
    public void setContentView(View view) {}
    public Intent getIntent() { return new Intent(); }
    public final void runOnUiThread(Runnable action) { action.run(); }
    @Override public AssetManager getAssets() { return null; }
    @Override public ContentResolver getContentResolver() { return null; }
}
