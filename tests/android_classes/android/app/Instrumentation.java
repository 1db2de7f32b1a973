package android.app;

import android.content.Context;
import android.content.ContextWrapper;
import android.os.Bundle;

public class Instrumentation {
    public void onCreate(Bundle arguments) {}

    public void onStart() {}

    /** On Android a thread of its own calls onStart. */
    public void start() {
        onStart();
    }

    public Context getContext() {
        return new ContextWrapper(null);
    }

    public UiAutomation getUiAutomation() {
        return new UiAutomation();
    }

    public void sendStatus(int code, Bundle status) {
        System.out.println("STATUS " + code + " " + status.values);
    }

    public void finish(int code, Bundle results) {
        System.out.println("CODE " + code + " " + results.values);
    }
}
