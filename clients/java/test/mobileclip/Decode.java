package mobileclip;

import java.io.File;
import java.nio.file.Files;

/** What an app gets of picture files: {@code Decode FILE...} writes FILE.rgb, upright, and prints its sides; or the code of
 * the refusal. */
final class Decode {
    private Decode() {}

    public static void main(String[] files) throws Exception {
        for (String file : files) {
            try {
                Picture picture = ImageFiles.read(new File(file));
                Files.write(new File(file + ".rgb").toPath(), picture.rgb);
                System.out.println(picture.width + " " + picture.height);
            } catch (MobileCLIPException refused) {
                System.out.println(refused.code);
            }
        }
    }
}
