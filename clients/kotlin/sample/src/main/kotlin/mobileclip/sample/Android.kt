package mobileclip.sample

import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.File
import java.nio.ByteBuffer
import mobileclip.BundleFiles
import mobileclip.Picture

/** A bundle among an app's assets, whose towers are read into memory. Large ones: copy the folder into the app's files
 * first, and take `BundleFiles.folder`, from which ONNX Runtime reads by itself. */
fun AssetManager.bundle(folder: String): BundleFiles = object : BundleFiles {
    override fun read(name: String): ByteArray = open("$folder/$name").use { it.readBytes() }

    override fun file(name: String): File? = null
}

/** A picture for `embedImage`. [orientation]: EXIF's; 1 where the decoder turned the picture (`ImageDecoder` does,
 * `BitmapFactory` does not). */
fun Bitmap.picture(orientation: Int = 1): Picture {
    // A bitmap of the GPU's, `ImageDecoder`'s default, has no pixels to read; other formats have no 8 bits a channel.
    val own = if (config == Bitmap.Config.ARGB_8888) this else copy(Bitmap.Config.ARGB_8888, false)
    val found = if (own.hasAlpha()) {
        val pixels = IntArray(width * height)
        own.getPixels(pixels, 0, width, 0, 0, width, height)
        Picture.argb(pixels, width, height)
    } else {
        // getPixels would turn a photograph's Display P3 into sRGB: the networks were trained on the stored numbers.
        val bytes = ByteBuffer.allocate(own.byteCount)
        own.copyPixelsToBuffer(bytes)
        Picture.of(Picture.Layout.RGBA, bytes.array(), width, height)
    }
    return found.upright(orientation)
}
