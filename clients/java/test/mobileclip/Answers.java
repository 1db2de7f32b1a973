package mobileclip;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Base64;
import java.util.Map;

/** Answers the cases of a JSON file, a line each, for a test that knows what is right: {@code Answers GIVEN BUNDLE}. */
final class Answers {
    private Answers() {}

    public static void main(String[] given) throws Exception {
        byte[] bytes = Files.readAllBytes(new File(given[0]).toPath());
        Map<?, ?> all = (Map<?, ?>) Json.parse(new String(bytes, StandardCharsets.UTF_8), "cases");
        BundleFiles bundle = BundleFiles.folder(new File(given[1]));
        MobileCLIP model = MobileCLIP.load(bundle, Checks.replay(bundle));
        for (Map<?, ?> one : Checks.maps(all.get("pictures"))) {
            byte[] data = Base64.getDecoder().decode((String) one.get("bytes"));
            int width = Checks.whole(one, "width");
            Picture picture = Picture.of(Picture.Layout.RGB, data, width, data.length / width / 3);
            Manifest.Preprocess how = new Manifest.Preprocess(new Manifest.Fields((Map<?, ?>) one.get("preprocess")));
            System.out.println(Checks.sha256(Checks.bytes(Resize.prepare(picture, how))));
        }
        tell(model.tokenizer(), all);
        Map<?, ?> own = (Map<?, ?>) all.get("own"); // a vocabulary that a checkpoint brings
        BundleFiles folder = BundleFiles.folder(new File((String) own.get("folder")));
        Object vocabulary = Json.parse(new String(folder.read("vocab.json"), StandardCharsets.UTF_8), "vocab.json");
        String merges = new String(folder.read("merges.txt"), StandardCharsets.UTF_8);
        Manifest.Text settings = new Manifest.Text(new Manifest.Fields((Map<?, ?>) own.get("settings")));
        tell(new Tokenizer((Map<?, ?>) vocabulary, merges, settings), own);
        for (String name : new String[] {"fp32", "fp16", "w8", "w8a16", "w8a8", "w6p", "w4p", "w4p-p50", "mixed", "w4"}) {
            System.out.println(name + " " + (name.equals("fp32") ? TowerTest.RELATIVE : TowerTest.bound(name)));
        }
    }

    private static void tell(Tokenizer tokenizer, Map<?, ?> given) {
        for (Object text : (java.util.List<?>) given.get("texts")) {
            StringBuilder line = new StringBuilder();
            for (int id : tokenizer.ids((String) text).ids) line.append(id).append(' ');
            System.out.println(line.toString().trim());
        }
    }
}
