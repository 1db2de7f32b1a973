package android.app;

import android.StandIn;
import android.content.Intent;
import android.os.Bundle;
import android.view.ContextThemeWrapper;
import android.view.View;
import android.view.Window;
import java.util.concurrent.LinkedBlockingQueue;

/** The thread that makes it is the one of its screen. */
public class Activity extends ContextThemeWrapper {
    @StandIn public final LinkedBlockingQueue<Runnable> posted = new LinkedBlockingQueue<>();

    @StandIn public View content;

    private final Thread screen = Thread.currentThread();
    private final Window window = new Window(this) {};

    public Activity() {
        super(null, 0);
    }

    protected void onCreate(Bundle savedInstanceState) {}

    @StandIn
    public void create() {
        onCreate(null);
    }

    public Window getWindow() {
        return window;
    }

    public void setContentView(View view) {
        content = view;
    }

    public Intent getIntent() {
        return new Intent();
    }

    public final void runOnUiThread(Runnable action) {
        if (Thread.currentThread() == screen) action.run();
        else posted.add(action);
    }
}
