package org.json;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** As much of Android's as the page reads: one number, one list of numbers. */
public class JSONObject {
    private final String text;

    public JSONObject(String text) { this.text = text; }

    public double getDouble(String name) {
        Matcher found = Pattern.compile('"' + name + "\"\\s*:\\s*([-+.eE0-9]+)").matcher(text);
        if (!found.find()) throw new IllegalArgumentException(name);
        return Double.parseDouble(found.group(1));
    }

    public JSONArray getJSONArray(String name) {
        Matcher found = Pattern.compile('"' + name + "\"\\s*:\\s*\\[([^\\]]*)\\]").matcher(text);
        if (!found.find()) throw new IllegalArgumentException(name);
        return new JSONArray(found.group(1).split(","));
    }
}
