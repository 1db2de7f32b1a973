package mobileclip

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import java.io.IOException
import java.nio.FloatBuffer
import java.nio.IntBuffer
import java.nio.LongBuffer

/** Runs a bundle's towers on ONNX Runtime, whose telemetry is switched off. [options]: threads, NNAPI or other
 * providers; the app closes them. */
class OnnxEngine(private val options: OrtSession.SessionOptions = OrtSession.SessionOptions()) : Engine {
    private val environment = OrtEnvironment.getEnvironment().apply { setTelemetry(false) }

    override fun target() = "onnx"

    override fun open(bundle: BundleFiles, name: String): Engine.Model {
        val file = bundle.file(name)
        try {
            val session =
                if (file != null) environment.createSession(file.path, options)
                else environment.createSession(bundle.read(name), options)
            return Tower(environment, session)
        } catch (error: OrtException) {
            throw unloaded(name, error)
        } catch (error: IOException) {
            throw unloaded(name, error)
        }
    }

    private fun unloaded(name: String, error: Exception) = MobileCLIPException(
        MobileCLIPException.Code.BUNDLE, "$name cannot be loaded (${error.message}): export the bundle again", error)
}

private class Tower(private val environment: OrtEnvironment, private val session: OrtSession) : Engine.Model {
    override fun run(input: String, values: Any, shape: LongArray, output: String): FloatArray =
        tensor(values, shape).use { given ->
            session.run(mapOf(input to given), setOf(output)).use { found ->
                val answer = (found[0] as OnnxTensor).floatBuffer
                FloatArray(answer.remaining()).also { answer.get(it) }
            }
        }

    private fun tensor(values: Any, shape: LongArray): OnnxTensor = when (values) {
        is FloatArray -> OnnxTensor.createTensor(environment, FloatBuffer.wrap(values), shape)
        is IntArray -> OnnxTensor.createTensor(environment, IntBuffer.wrap(values), shape)
        is LongArray -> OnnxTensor.createTensor(environment, LongBuffer.wrap(values), shape)
        else -> throw IllegalArgumentException("${values.javaClass} is no tower's input")
    }

    override fun close() = session.close()
}
