import java.io.File;
import java.io.IOException;
import java.util.Map;
import mobileclip.BenchFetch;
import mobileclip.BenchRun;

/** The app without its screen, on a Java machine: fetches a job by a link, runs it, prints what the screen would say. */
public final class Bench implements BenchRun.Phone {
    public static void main(String[] words) throws IOException {
        File place = new File(words[1]);
        File folder = BenchFetch.job(words[0], new File(place, "runs"));
        BenchRun run = new BenchRun(folder, new File(place, "results"));
        run.run(new Bench(), new BenchRun.Progress() {
            @Override
            public void turn(int finished, int all, String cell) {
                System.out.println(finished + "/" + all + " " + cell);
            }
        });
        for (Map.Entry<String, String> one : run.told().entrySet()) System.out.println(one.getKey() + ": " + one.getValue());
    }

    @Override
    public String device() {
        return "{\"kind\":\"android\",\"simulated\":true,\"name\":\"stand-in\",\"model\":\"Java\",\"architecture\":\"x86_64\",\"os\":\"Android\","
                + "\"os_version\":\"0\",\"cores\":1}";
    }

    @Override
    public String harness() {
        return "{\"name\":\"mobileclip-bench-app\",\"version\":\"1\"}";
    }

    @Override
    public String snapshot() {
        return "{\"unix_seconds\":" + System.currentTimeMillis() / 1000.0 + "}";
    }

    @Override
    public String thermalState() {
        return null;
    }
}
