package mobileclip.bench;

import android.app.Activity;
import android.content.ContentResolver;
import android.content.ContentValues;
import android.content.Intent;
import android.content.res.AssetManager;
import android.net.Uri;
import android.os.Bundle;
import android.provider.MediaStore;
import android.view.View;
import android.view.WindowManager;
import android.widget.Button;
import android.widget.EditText;
import android.widget.LinearLayout;
import android.widget.ScrollView;
import android.widget.TextView;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.Arrays;
import java.util.Map;
import mobileclip.BenchFetch;
import mobileclip.BenchRun;

/** The one screen: what can be run, how far it is, what came out. The measuring itself is BenchRun's, on a thread of its own. */
public final class BenchActivity extends Activity {
    private LinearLayout list;
    private EditText link;
    private TextView shown;
    private Uri result;
    private boolean running;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        getWindow().addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON);
        list = new LinearLayout(this);
        list.setOrientation(LinearLayout.VERTICAL);
        list.setPadding(48, 48, 48, 48);
        ScrollView page = new ScrollView(this);
        page.addView(list);
        setContentView(page);
        link = new EditText(this);
        link.setHint("https:// of a job's folder");
        show(getIntent().getData());
        shown = new TextView(this);
        shown.setTextIsSelectable(true);
        begin(new Work() {
            @Override
            public String done() throws IOException {
                copyAssets("jobs", runs());
                return "";
            }
        });
    }

    @Override
    protected void onNewIntent(Intent intent) {
        show(intent.getData());
    }

    /** A link to a job that the phone opened. It is fetched when its reader says so. */
    private void show(Uri opened) {
        if (opened != null) link.setText(BenchFetch.linked(opened.toString()));
    }

    /** What takes time; its text is shown at the end. */
    private interface Work {
        String done() throws IOException;
    }

    private void begin(final Work work) {
        if (running) return;
        running = true;
        draw();
        new Thread(new Runnable() {
            @Override
            public void run() {
                String text;
                try {
                    text = work.done();
                } catch (IOException | RuntimeException error) {
                    text = error.getMessage() == null ? error.toString() : error.getMessage();
                }
                final String told = text;
                runOnUiThread(new Runnable() {
                    @Override
                    public void run() {
                        running = false;
                        shown.setText(told);
                        draw();
                    }
                });
            }
        }).start();
    }

    private void draw() {
        list.removeAllViews();
        File[] folders = runs().listFiles();
        if (folders != null) {
            Arrays.sort(folders);
            for (final File folder : folders) {
                if (new File(folder, "job.json").isFile()) {
                    button("Run " + folder.getName(), new Work() {
                        @Override
                        public String done() throws IOException {
                            return measured(folder);
                        }
                    });
                }
            }
        }
        list.addView(link);
        button("Fetch a job", new Work() {
            @Override
            public String done() throws IOException {
                return "Fetched " + BenchFetch.job(link.getText().toString().trim(), runs()).getName() + ".";
            }
        });
        list.addView(shown);
        if (result == null) return;
        Button share = new Button(this);
        share.setText("Share the result");
        share.setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                Intent send = new Intent(Intent.ACTION_SEND);
                send.setType("application/json");
                send.putExtra(Intent.EXTRA_STREAM, result);
                send.addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION);
                startActivity(Intent.createChooser(send, null));
            }
        });
        list.addView(share);
    }

    private void button(String text, final Work work) {
        Button button = new Button(this);
        button.setText(text);
        button.setEnabled(!running);
        button.setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                begin(work);
            }
        });
        list.addView(button);
    }

    private String measured(File folder) throws IOException {
        BenchRun run = new BenchRun(folder, new File(getFilesDir(), "results"));
        final AndroidPhone phone = new AndroidPhone(this);
        File record = run.run(phone, new BenchRun.Progress() {
            @Override
            public void turn(final int finished, final int all, final String cell) {
                runOnUiThread(new Runnable() {
                    @Override
                    public void run() {
                        shown.setText(finished + " of " + all + " rounds\n" + cell + "\nKeep the screen on and leave the phone alone.");
                    }
                });
            }
        });
        result = toDownloads(record);
        StringBuilder text = new StringBuilder(phone.isSimulated() ? "SIMULATED: this is no phone; its figures are nobody's latency.\n\n" : "");
        text.append("Self-reported:\n");
        for (Map.Entry<String, String> one : run.told().entrySet()) text.append(one.getKey()).append("\n  ").append(one.getValue()).append('\n');
        return text.append("\nDownloads/").append(record.getName()).append(": `mobileclip-deploy report` compares all answers where the job was written.").toString();
    }

    /** A copy where the Files app and other apps find it. */
    private Uri toDownloads(File record) throws IOException {
        ContentResolver resolver = getContentResolver();
        ContentValues values = new ContentValues();
        values.put(MediaStore.MediaColumns.DISPLAY_NAME, record.getName());
        values.put(MediaStore.MediaColumns.MIME_TYPE, "application/json");
        Uri place = resolver.insert(MediaStore.Downloads.EXTERNAL_CONTENT_URI, values);
        if (place == null) throw new IOException("the Downloads folder takes no file; the result is " + record);
        try (InputStream from = new FileInputStream(record); OutputStream to = resolver.openOutputStream(place)) {
            copy(from, to);
        }
        return place;
    }

    private File runs() {
        return new File(getFilesDir(), "runs");
    }

    /** Jobs that came within the APK: the runtime reads files alone. */
    private void copyAssets(String from, File to) throws IOException {
        AssetManager assets = getAssets();
        for (String name : assets.list(from)) {
            String path = from + "/" + name;
            File file = new File(to, name);
            if (assets.list(path).length > 0) {
                copyAssets(path, file);
            } else {
                if (!to.isDirectory() && !to.mkdirs()) throw new IOException(to + " cannot be made");
                try (InputStream in = assets.open(path); OutputStream out = new FileOutputStream(file)) {
                    copy(in, out);
                }
            }
        }
    }

    private static void copy(InputStream from, OutputStream to) throws IOException {
        byte[] part = new byte[1 << 16];
        for (int come; (come = from.read(part)) >= 0;) to.write(part, 0, come);
    }
}
