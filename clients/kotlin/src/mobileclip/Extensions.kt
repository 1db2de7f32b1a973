package mobileclip

import java.io.File
import java.util.concurrent.Executors
import kotlin.coroutines.resume
import kotlin.coroutines.resumeWithException
import kotlin.coroutines.suspendCoroutine

/** The bundle in [folder], loaded once; [towers]: "image", "text", or both; [lock]: the text in OWNER--NAME.lock.json of
 * `publish`, which each file is held to. */
fun MobileCLIP(
    folder: File, towers: Collection<String>? = null, engine: Engine = OnnxEngine(), lock: String? = null,
): MobileCLIP {
    val files = BundleFiles.folder(folder)
    return MobileCLIP.load(if (lock == null) files else BundleFiles.locked(files, lock), engine, towers)
}

/** Probabilities by label, the most probable first. */
fun Labels.probabilities(picture: Embedding): Map<String, Double> =
    classify(picture).associate { it.label to it.probability }

/** The row of an id; null where it is not in the index. */
fun Index.rowOrNull(id: String): Int? = row(id).takeIf { it >= 0 }

/** The cosine that a match of [text] needs among [size] pictures; null of a bundle without `--background`. */
fun MobileCLIP.neededOrNull(text: Embedding.Text, size: Int): Double? = needed(text, size).takeUnless(Double::isNaN)

/** The embedding of a picture. This one and the next suspend their caller, and run on one thread of their own: an inference
 * that has begun is not interrupted. */
suspend fun MobileCLIP.embed(picture: Picture): Embedding = apart { embedImage(picture) }

/** The embedding of a text. */
suspend fun MobileCLIP.embed(text: String): Embedding.Text = apart { embedText(text) }

/** What a text finds in [index], or that nothing is; [threshold]: the cosine that the nearest needs, in place of the bundle's. */
suspend fun MobileCLIP.find(index: Index, text: String, top: Int = 10, threshold: Double? = null): MobileCLIP.Answer = apart {
    if (threshold == null) search(index, text, top) else search(index, embedText(text), top, threshold)
}

private val thread = Executors.newSingleThreadExecutor { work -> Thread(work, "mobileclip").apply { isDaemon = true } }

private suspend fun <T> apart(work: () -> T): T = suspendCoroutine { caller ->
    thread.execute { runCatching(work).fold(caller::resume, caller::resumeWithException) }
}
