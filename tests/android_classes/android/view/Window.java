package android.view;

import android.content.Context;

public abstract class Window {
    public Window(Context context) {}

    public void addFlags(int flags) {
        if (flags == WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON) System.out.println("The screen is kept on.");
    }
}
