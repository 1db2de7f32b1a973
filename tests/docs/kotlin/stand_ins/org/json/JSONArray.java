package org.json;

public class JSONArray {
    private final String[] numbers;

    JSONArray(String[] numbers) { this.numbers = numbers; }

    public int length() { return numbers.length; }
    public double getDouble(int at) { return Double.parseDouble(numbers[at].trim()); }
}
