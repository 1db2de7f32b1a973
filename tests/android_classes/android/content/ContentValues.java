package android.content;

import android.os.Parcelable;
import java.util.LinkedHashMap;
import java.util.Map;

public final class ContentValues implements Parcelable {
    private final Map<String, Object> values = new LinkedHashMap<>();

    public void put(String key, String value) {
        values.put(key, value);
    }

    public String getAsString(String key) {
        return (String) values.get(key);
    }
}
