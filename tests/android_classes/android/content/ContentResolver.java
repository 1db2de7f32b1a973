package android.content;

import android.StandIn;
import android.net.Uri;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.FileOutputStream;
import java.io.OutputStream;

/** Of the Downloads collection alone, which is a folder. */
public abstract class ContentResolver {
    public ContentResolver(Context context) {}

    @StandIn
    public static ContentResolver phone() {
        return new ContentResolver(null) {};
    }

    public final Uri insert(Uri url, ContentValues values) {
        if (!url.toString().equals("content://media/external/downloads")) throw new IllegalArgumentException("Unknown URL " + url);
        File folder = new File(System.getProperty("phone"), "Download");
        return folder.isDirectory() ? Uri.of(url + "/" + values.getAsString("_display_name")) : null;
    }

    public final OutputStream openOutputStream(Uri uri) throws FileNotFoundException {
        String name = uri.toString().substring(uri.toString().lastIndexOf('/') + 1);
        return new FileOutputStream(new File(new File(System.getProperty("phone"), "Download"), name));
    }
}
