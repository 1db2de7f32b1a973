import android.app.Activity;
import android.net.Uri;
import android.view.View;
import android.view.ViewGroup;
import android.widget.Button;
import android.widget.EditText;
import android.widget.TextView;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * Starts an activity on a phone of stand-ins and uses its screen: {@code Screen CLASS WORD...}, each word a text to tap, or
 * `type=TEXT` for the field, or `open=LINK`, which the phone opens while the app runs. After each, once every button works again, it prints what the screen shows: [buttons], (a
 * field's hint or text), other text. Lines before that are of screens on the way.
 */
public class Screen {
    private static final int SECONDS = 300;

    public static void main(String[] words) throws ReflectiveOperationException, InterruptedException {
        Activity activity = (Activity) Class.forName(words[0]).getDeclaredConstructor().newInstance();
        activity.create();
        settled(activity, "opened");
        for (int at = 1; at < words.length; at++) {
            if (words[at].startsWith("open=")) {
                activity.open(Uri.of(words[at].substring("open=".length())));
            } else if (words[at].startsWith("type=")) {
                for (View view : views(activity.content)) {
                    if (view instanceof EditText) ((EditText) view).setText(words[at].substring("type=".length()));
                }
            } else {
                button(activity, words[at]).performClick();
            }
            settled(activity, words[at]);
        }
    }

    private static Button button(Activity activity, String text) {
        for (View view : views(activity.content)) {
            if (view instanceof Button && view.isEnabled() && text.contentEquals(((Button) view).getText())) return (Button) view;
        }
        throw new IllegalArgumentException("no button says " + text + ":\n" + drawn(activity));
    }

    /** Carries out what other threads post, until every button works. */
    private static void settled(Activity activity, String after) throws InterruptedException {
        boolean waits = true;
        while (waits) {
            waits = false;
            for (View view : views(activity.content)) waits |= view instanceof Button && !view.isEnabled();
            if (!waits) break;
            Runnable next = activity.posted.poll(SECONDS, TimeUnit.SECONDS);
            if (next == null) throw new IllegalStateException("nothing happens:\n" + drawn(activity));
            next.run();
            System.out.println("... " + drawn(activity).replace('\n', '|'));
        }
        System.out.println("AFTER " + after + "\n" + drawn(activity) + "END");
    }

    private static String drawn(Activity activity) {
        StringBuilder found = new StringBuilder();
        for (View view : views(activity.content)) {
            if (view instanceof Button) found.append(view.isEnabled() ? "[" : "[off: ").append(((Button) view).getText()).append("]\n");
            else if (view instanceof EditText) found.append('(').append(shown((EditText) view)).append(")\n");
            else if (view instanceof TextView) found.append(((TextView) view).getText()).append('\n');
        }
        return found.toString();
    }

    private static CharSequence shown(EditText field) {
        return field.getText().length() == 0 ? field.getHint() : field.getText();
    }

    private static List<View> views(View top) {
        List<View> found = new ArrayList<>();
        found.add(top);
        if (top instanceof ViewGroup) {
            for (int at = 0; at < ((ViewGroup) top).getChildCount(); at++) found.addAll(views(((ViewGroup) top).getChildAt(at)));
        }
        return found;
    }
}
