package android.os;

import android.StandIn;
import java.util.Map;
import java.util.TreeMap;

public class BaseBundle {
    @StandIn public final Map<String, Object> values = new TreeMap<>();

    BaseBundle() {}

    public void putString(String key, String value) {
        values.put(key, value);
    }

    public void putInt(String key, int value) {
        values.put(key, value);
    }

    public String getString(String key, String defaultValue) {
        return (String) values.getOrDefault(key, defaultValue);
    }
}
