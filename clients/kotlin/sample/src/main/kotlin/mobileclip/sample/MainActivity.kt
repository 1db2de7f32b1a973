package mobileclip.sample

import android.app.Activity
import android.content.Intent
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Bundle
import android.widget.TextView
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
            }
            runOnUiThread { shown.text = text }
        }
    }

    private fun told(address: Uri): String {
        val picture = ImageDecoder.decodeBitmap(ImageDecoder.createSource(contentResolver, address)).picture()
        return model.labels(listOf("pizza", "rocket", "a red car")).probabilities(model.embedImage(picture))
            .entries.joinToString("\n") { (label, share) -> "%.0f%% %s".format(100 * share, label) }
    }

    private val model get() = loaded ?: MobileCLIP.load(assets.bundle("bundle"), OnnxEngine()).also { loaded = it }

    private companion object {
        var loaded: MobileCLIP? = null // once a process: loading takes as long as many inferences
    }
}
