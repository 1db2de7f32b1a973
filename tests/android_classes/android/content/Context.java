package android.content;

import android.content.res.AssetManager;
import java.io.File;

public abstract class Context {
    public abstract AssetManager getAssets();

    public abstract ContentResolver getContentResolver();

    public abstract File getFilesDir();

    public abstract String getPackageCodePath();

    public abstract void startActivity(Intent intent);

    public abstract Object getSystemService(String name);

    public abstract String getSystemServiceName(Class<?> serviceClass);

    @SuppressWarnings("unchecked")
    public final <T> T getSystemService(Class<T> serviceClass) {
        return (T) getSystemService(getSystemServiceName(serviceClass));
    }
}
