package mobileclip.bench;

import android.app.ActivityManager;
import android.content.Context;
import android.os.BatteryManager;
import android.os.Build;
import android.os.PowerManager;
import java.io.BufferedReader;
import java.io.File;
import java.io.FileReader;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import mobileclip.BenchRun;

/** Facts that Android reports to an app about its phone. */
final class AndroidPhone implements BenchRun.Phone {
    private static final String VERSION = "1";
    private static final int PERCENT = 100;
    private final Context context;

    AndroidPhone(Context context) {
        this.context = context;
    }

    /** Emulators say what they are. */
    boolean isSimulated() {
        return Build.HARDWARE.contains("ranchu") || Build.HARDWARE.contains("goldfish") || Build.HARDWARE.contains("cutf") || Build.HARDWARE.equals("vsoc");
    }

    @Override
    public Map<String, Object> device() {
        ActivityManager.MemoryInfo memory = new ActivityManager.MemoryInfo();
        context.getSystemService(ActivityManager.class).getMemoryInfo(memory);
        int cores = Runtime.getRuntime().availableProcessors();
        List<Integer> fastest = new ArrayList<>();
        for (int core = 0; core < cores; core++) {
            int khz = khz(core);
            if (khz > 0) fastest.add(khz);
        }
        boolean hasMaker = Build.MODEL.toLowerCase(Locale.ROOT).startsWith(Build.MANUFACTURER.toLowerCase(Locale.ROOT));
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("kind", "android");
        found.put("simulated", isSimulated());
        found.put("name", hasMaker ? Build.MODEL : Build.MANUFACTURER + " " + Build.MODEL);
        found.put("model", Build.MODEL);
        found.put("architecture", Build.SUPPORTED_ABIS[0]);
        found.put("os", "Android");
        found.put("os_version", Build.VERSION.RELEASE);
        found.put("build", Build.FINGERPRINT);
        found.put("cores", cores);
        found.put("core_maximum_khz", fastest);
        found.put("memory_bytes", memory.totalMem);
        if (Build.VERSION.SDK_INT >= 31) found.put("soc", Build.SOC_MANUFACTURER + " " + Build.SOC_MODEL);
        return found;
    }

    @Override
    public Map<String, Object> harness() {
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("name", "mobileclip-bench-app");
        found.put("version", VERSION);
        found.put("build", "release");
        found.put("affinity", Collections.emptyList());
        found.put("c_library", "bionic");
        return found;
    }

    @Override
    public Map<String, Object> snapshot() {
        BatteryManager battery = context.getSystemService(BatteryManager.class);
        int percent = battery.getIntProperty(BatteryManager.BATTERY_PROPERTY_CAPACITY);
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("unix_seconds", System.currentTimeMillis() / 1000.0);
        found.put("charging", battery.isCharging());
        found.put("thermal_state", thermalState());
        found.put("low_power_mode", context.getSystemService(PowerManager.class).isPowerSaveMode());
        if (percent >= 0 && percent <= PERCENT) found.put("battery_percent", percent);
        return found;
    }

    @Override
    public String thermalState() {
        int status = context.getSystemService(PowerManager.class).getCurrentThermalStatus();
        if (status <= PowerManager.THERMAL_STATUS_NONE) return "nominal";
        if (status <= PowerManager.THERMAL_STATUS_MODERATE) return "fair";
        return status == PowerManager.THERMAL_STATUS_SEVERE ? "serious" : "critical";
    }

    /** The fastest clock of a core; 0 where the phone does not let an app read it. */
    private static int khz(int core) {
        File file = new File("/sys/devices/system/cpu/cpu" + core + "/cpufreq/cpuinfo_max_freq");
        try (BufferedReader lines = new BufferedReader(new FileReader(file))) {
            return Integer.parseInt(lines.readLine().trim());
        } catch (IOException | NumberFormatException hidden) {
            return 0;
        }
    }
}
