package mobileclip.sample

import android.app.Activity
import android.content.Intent
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Bundle
import android.widget.TextView
import java.io.IOException
import kotlin.concurrent.thread
import mobileclip.MobileCLIP
import mobileclip.MobileCLIPException
import mobileclip.OnnxEngine
import mobileclip.probabilities

/** Takes a picture from another app ("share") and shows how probable each label is. */
class MainActivity : Activity() {
    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        val shown = TextView(this).also(::setContentView)
        @Suppress("DEPRECATION") // the one that follows it begins with Android 13
        val address = intent.getParcelableExtra<Uri>(Intent.EXTRA_STREAM)
        thread {
            val text = try {
                address?.let(::told) ?: "Share a picture with this app."
            } catch (error: MobileCLIPException) {
                error.message
            } catch (error: IOException) { // a file that is not a picture, or is gone
                "This picture cannot be read: ${error.message}"
            } catch (error: SecurityException) {
                "The other app does not let this one read the picture."
            }
            runOnUiThread { shown.text = text }
        }
    }

    private fun told(address: Uri): String {
        val picture = ImageDecoder.decodeBitmap(ImageDecoder.createSource(contentResolver, address)).picture()
        val model = model(this)
        return model.labels(listOf("pizza", "rocket", "a red car")).probabilities(model.embedImage(picture))
            .entries.joinToString("\n") { (label, share) -> "%.0f%% %s".format(100 * share, label) }
    }

    private companion object {
        private var loaded: MobileCLIP? = null

        /** Once per process, in the first thread that needs it: loading takes as long as many inferences. */
        @Synchronized
        fun model(activity: Activity): MobileCLIP =
            loaded ?: MobileCLIP.load(activity.assets.bundle("bundle"), OnnxEngine()).also { loaded = it }
    }
}
