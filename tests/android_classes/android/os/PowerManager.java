package android.os;

import android.StandIn;

public final class PowerManager {
    public static final int THERMAL_STATUS_NONE = 0;
    public static final int THERMAL_STATUS_LIGHT = 1;
    public static final int THERMAL_STATUS_MODERATE = 2;
    public static final int THERMAL_STATUS_SEVERE = 3;
    public static final int THERMAL_STATUS_CRITICAL = 4;

    private PowerManager() {}

    @StandIn
    public static PowerManager phone() {
        return new PowerManager();
    }

    public boolean isPowerSaveMode() {
        return false;
    }

    public int getCurrentThermalStatus() {
        return THERMAL_STATUS_LIGHT;
    }
}
