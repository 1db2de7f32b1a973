package android.content;

public class Context {
    public String getPackageCodePath() {
        return System.getProperty("apk");
    }
}
