package android.content;

import android.app.ActivityManager;
import android.content.res.AssetManager;
import android.os.BatteryManager;
import android.os.PowerManager;
import java.io.File;
import java.nio.file.Path;

/** The phone is the folder that the property `phone` names: an app's assets, its files, Download. */
public class ContextWrapper extends Context {
    public ContextWrapper(Context base) {}

    @Override
    public AssetManager getAssets() {
        return new AssetManager(Path.of(System.getProperty("phone"), "assets"));
    }

    @Override
    public ContentResolver getContentResolver() {
        return ContentResolver.phone();
    }

    @Override
    public File getFilesDir() {
        return new File(System.getProperty("phone"), "files");
    }

    @Override
    public String getPackageCodePath() {
        return System.getProperty("apk");
    }

    @Override
    public void startActivity(Intent intent) {
        System.out.println("STARTED " + intent);
    }

    @Override
    public String getSystemServiceName(Class<?> serviceClass) {
        return serviceClass.getName();
    }

    @Override
    public Object getSystemService(String name) {
        if (name.equals(ActivityManager.class.getName())) return ActivityManager.phone();
        if (name.equals(BatteryManager.class.getName())) return BatteryManager.phone();
        if (name.equals(PowerManager.class.getName())) return PowerManager.phone();
        return null;
    }
}
