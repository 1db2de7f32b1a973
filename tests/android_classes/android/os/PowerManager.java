package android.os;

import android.StandIn;

public final class PowerManager {
    public static final int THERMAL_STATUS_NONE = 0;
    public static final int THERMAL_STATUS_LIGHT = 1;
    public static final int THERMAL_STATUS_MODERATE = 2;
    public static final int THERMAL_STATUS_SEVERE = 3;
    public static final int THERMAL_STATUS_CRITICAL = 4;

    /** How long the phone stays warm from the first look on, in seconds; for ever where nothing says it. */
    private static final long WARM = Long.getLong("warm", Long.MAX_VALUE);
    private static Long first;

    private PowerManager() {}

    @StandIn
    public static PowerManager phone() {
        return new PowerManager();
    }

    public boolean isPowerSaveMode() {
        return false;
    }

    public int getCurrentThermalStatus() {
        if (first == null) first = System.nanoTime();
        return (System.nanoTime() - first) / 1_000_000_000 < WARM ? THERMAL_STATUS_LIGHT : THERMAL_STATUS_NONE;
    }
}
