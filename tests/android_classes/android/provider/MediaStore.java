package android.provider;

import android.net.Uri;

public final class MediaStore {
    public interface MediaColumns {
        String DISPLAY_NAME = "_display_name";
        String MIME_TYPE = "mime_type";
    }

    public static final class Downloads implements MediaColumns {
        public static final Uri EXTERNAL_CONTENT_URI = Uri.of("content://media/external/downloads");

        private Downloads() {}
    }
}
