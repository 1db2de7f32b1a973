import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.File
import java.nio.file.Path
import kotlin.coroutines.Continuation
import kotlin.coroutines.EmptyCoroutineContext
import kotlin.coroutines.startCoroutine
import java.util.concurrent.CompletableFuture
import java.util.concurrent.ExecutionException
import mobileclip.*
import mobileclip.sample.bundle

/** Prints what a bundle answers in ONNX Runtime, a line each. FOLDER (with nano-onnx-fp32 and library.mcdx) PIXELS WIDTH */
fun main(words: Array<String>) {
    val folder = File(words[0])
    val pixels = File(words[1]).readBytes()
    val assets = AssetManager(Path.of(words[0]))
    for (config in Bitmap.Config.entries) {
        val bitmap = Bitmap(pixels, words[2].toInt(), config)
        println("labels ${Classifier(assets).probabilities(bitmap).entries.joinToString(" ") { "${it.key}=${it.value}" }}")
    }
    val bundle = folder.resolve("nano-onnx-fp32")
    MobileCLIP(bundle).use { model ->
        for (test in model.selfTest()) println("test ${test.tower} ${test.inputs} ${test.relative} ${test.passed}")
        val library = Index.open(folder.resolve("library.mcdx"))
        for (text in listOf("rocket", "xqzv bloop")) {
            val answer = model.search(library, text, 3)
            println("search ${answer.found} ${answer.needed} ${answer.best} ${answer.matches.joinToString(" ") { it.id }}")
        }
        val found = blocking { model.find(library, "rocket", top = 3) }
        println("suspended ${found.matches.joinToString(" ") { it.id }} ${found.found} ${library.rowOrNull("none")}")
        val refused = runCatching { blocking { model.find(library, "rocket", threshold = Double.NaN) } }.exceptionOrNull()
        println("suspended ${(refused as MobileCLIPException).code} ${model.neededOrNull(model.embedText("dog"), 100)?.isFinite()}")
        println("cut ${model.embedText("dog ".repeat(100)).rest.length}")
        val picture = Picture.of(Picture.Layout.RGBA, pixels, words[2].toInt(), pixels.size / 4 / words[2].toInt())
        println("image ${model.embedImage(picture).values.joinToString(" ")}")
        println("text ${model.embedText("a photo of a dog").values.joinToString(" ")}")
    }
    for (name in listOf("golden.safetensors", "onnx/text_model.onnx", "tokenizer/merges.txt", "manifest.json")) {
        val cut = object : BundleFiles {
            override fun read(file: String) = bundle.resolve(file).readBytes().let { if (file == name) it.copyOf(it.size / 2) else it }

            override fun file(file: String): File? = null
        }
        try {
            MobileCLIP.load(cut, OnnxEngine()).use {
                it.selfTest()
                it.embedText("a photograph of an extraordinary zebra")
            }
            println("refused $name nothing")
        } catch (error: MobileCLIPException) {
            println("refused $name ${error.code}")
        }
    }
}

/** As `runBlocking` of kotlinx.coroutines, which an app has. */
private fun <T> blocking(work: suspend () -> T): T {
    val answer = CompletableFuture<T>()
    work.startCoroutine(Continuation(EmptyCoroutineContext) { result -> result.fold(answer::complete, answer::completeExceptionally) })
    return try { answer.get() } catch (error: ExecutionException) { throw error.cause ?: error }
}
