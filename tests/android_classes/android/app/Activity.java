package android.app;

import android.StandIn;
import android.content.Intent;
import android.net.Uri;
import android.os.Bundle;
import android.view.ContextThemeWrapper;
import android.view.View;
import android.view.Window;
import java.util.concurrent.LinkedBlockingQueue;

/** The thread that makes it is the one of its screen. It was opened by the link in the property `opened`, if any. */
public class Activity extends ContextThemeWrapper {
    @StandIn public final LinkedBlockingQueue<Runnable> posted = new LinkedBlockingQueue<>();

    @StandIn public View content;

    private final Thread screen = Thread.currentThread();
    private final Window window = new Window(this) {};

    public Activity() {
        super(null, 0);
    }

    protected void onCreate(Bundle savedInstanceState) {}

    protected void onNewIntent(Intent intent) {}

    @StandIn
    public void create() {
        onCreate(null);
    }

    @StandIn
    public void open(Uri link) {
        onNewIntent(new Intent().setData(link));
    }

    public Window getWindow() {
        return window;
    }

    public void setContentView(View view) {
        content = view;
    }

    public Intent getIntent() {
        String opened = System.getProperty("opened");
        return opened == null ? new Intent() : new Intent().setData(Uri.of(opened));
    }

    public final void runOnUiThread(Runnable action) {
        if (Thread.currentThread() == screen) action.run();
        else posted.add(action);
    }
}
