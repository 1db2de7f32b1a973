import android.content.res.AssetManager
import android.graphics.Bitmap
import java.nio.file.Path

/** A picture of two pixels: of its probabilities one line. */
fun main(words: Array<String>) {
    val pixels = words[1].split(",").map { it.toInt().toByte() }.toByteArray()
    println(Classifier(AssetManager(Path.of(words[0]))).probabilities(Bitmap(pixels, 2)).joinToString(" "))
}
