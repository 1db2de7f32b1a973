package mobileclip

import java.io.File

/** The bundle in [folder], loaded once; [towers]: "image", "text", or both. */
fun mobileCLIP(folder: File, towers: List<String>? = null, engine: Engine = OnnxEngine()): MobileCLIP =
    MobileCLIP.load(BundleFiles.folder(folder), engine, towers)

/** Probabilities by label, the most probable first. */
fun Labels.probabilities(picture: Embedding): Map<String, Double> =
    classify(picture).associate { it.label to it.probability }
