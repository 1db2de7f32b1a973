import android.app.Instrumentation;
import android.os.Bundle;

/** `am instrument -w -e folder FOLDER`, of the class that the manifest names. */
public class Phone {
    public static void main(String[] words) throws ReflectiveOperationException {
        Bundle arguments = new Bundle();
        arguments.putString("folder", words[1]);
        ((Instrumentation) Class.forName(words[0]).getDeclaredConstructor().newInstance()).onCreate(arguments);
    }
}
