package android.app;

import android.os.ParcelFileDescriptor;
import java.io.IOException;

public final class UiAutomation {
    UiAutomation() {}

    /** As android.app.UiAutomationConnection starts it: words apart by spaces, no shell, stdout alone comes back. */
    public ParcelFileDescriptor executeShellCommand(String command) {
        try {
            return new ParcelFileDescriptor(Runtime.getRuntime().exec(command).getInputStream());
        } catch (IOException error) {
            throw new RuntimeException(error);
        }
    }
}
