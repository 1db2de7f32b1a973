package android.os;

import java.util.Map;
import java.util.TreeMap;

public class Bundle {
    public final Map<String, Object> values = new TreeMap<>();

    public void putString(String key, String value) {
        values.put(key, value);
    }

    public void putInt(String key, int value) {
        values.put(key, value);
    }

    public String getString(String key, String otherwise) {
        return (String) values.getOrDefault(key, otherwise);
    }
}
