package android.os;

/** A phone; of the emulator, if the property `hardware` says so. No constants: no compiler copies them into an app. */
public class Build {
    public static final String FINGERPRINT = text("google/shiba/shiba:14/UQ1A.240205.004/11269751:user/release-keys");
    public static final String HARDWARE = text(System.getProperty("hardware", "zuma"));
    public static final String MANUFACTURER = text("Google");
    public static final String MODEL = text("Pixel 8");
    public static final String SOC_MANUFACTURER = text("Google");
    public static final String SOC_MODEL = text("Tensor G3");
    public static final String[] SUPPORTED_ABIS = {"arm64-v8a"};

    public static class VERSION {
        public static final String RELEASE = text("14");
        public static final int SDK_INT = Integer.parseInt("34");
    }

    private static String text(String text) {
        return text;
    }
}
