package android.os;

import android.StandIn;

public class BatteryManager {
    public static final int BATTERY_PROPERTY_CAPACITY = 4;

    private BatteryManager() {}

    @StandIn
    public static BatteryManager phone() {
        return new BatteryManager();
    }

    public boolean isCharging() {
        return true;
    }

    /** As Android does for what the phone does not tell. */
    public int getIntProperty(int id) {
        return id == BATTERY_PROPERTY_CAPACITY ? 83 : Integer.MIN_VALUE;
    }
}
