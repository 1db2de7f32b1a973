package android.app;

import android.StandIn;

public class ActivityManager {
    public static class MemoryInfo {
        public long totalMem;
    }

    private ActivityManager() {}

    @StandIn
    public static ActivityManager phone() {
        return new ActivityManager();
    }

    public void getMemoryInfo(MemoryInfo outInfo) {
        outInfo.totalMem = 7_700_000_000L;
    }
}
