import CONNXRuntime
import Foundation
import MobileCLIPKit

/// ONNX Runtime's C API, for Linux: servers, and the tests of this package.
public struct ONNXRuntimeEngine: Engine {
    public let targets = ["onnx"]
    public let computeUnits = [ComputeUnits.cpuOnly]
    private let threads: Int32

    /// - Parameter threads: of one inference; 0: as many as the machine has cores.
    public init(threads: Int32 = 0) { self.threads = threads }

    public func load(_ entry: Manifest.TowerEntry, at file: URL, on units: ComputeUnits) async throws -> any TowerRunner {
        try ONNXTower(entry, file, threads)
    }
}

private struct ONNXError: LocalizedError {
    let errorDescription: String?
}

private actor ONNXTower: TowerRunner {
    private let entry: Manifest.TowerEntry
    private let session: Session

    init(_ entry: Manifest.TowerEntry, _ file: URL, _ threads: Int32) throws {
        self.entry = entry
        do {
            session = try Session(file, threads)
        } catch {
            throw MobileCLIPError(.bundle, "\(entry.file) cannot be loaded: \(error.localizedDescription)")
        }
    }

    func run(_ input: TowerInput) throws -> [Float] {
        // A free dimension is the batch: one input at a time.
        let shape = [1] + entry.input.shape.dropFirst().map { Int64($0) }
        switch input {
        case .pixels(let values):
            return try session.run(entry, values, shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
        case .ids(let ids) where entry.input.dtype == "int64":
            return try session.run(entry, ids.map { Int64($0) }, shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)
        case .ids(let ids):
            return try session.run(entry, ids, shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32)
        }
    }
}

/// The C library's handles; they are given back when nobody uses them any more. One thread at a time.
private final class Session {
    private let api: OrtApi
    private var environment: OpaquePointer?
    private var options: OpaquePointer?
    private var session: OpaquePointer?
    private var memory: OpaquePointer?

    init(_ file: URL, _ threads: Int32) throws {
        guard let found = OrtGetApiBase()?.pointee.GetApi(UInt32(ORT_API_VERSION)) else {
            throw ONNXError(errorDescription: "ONNX Runtime is older than the headers that this was compiled with")
        }
        api = found.pointee
        try check(api.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "mobileclip", &environment))
        try check(api.CreateSessionOptions(&options))
        try check(api.SetIntraOpNumThreads(options, threads))
        try check(api.CreateSession(environment, file.path, options, &session))
        try check(api.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory))
    }

    deinit {
        api.ReleaseMemoryInfo(memory)
        api.ReleaseSession(session)
        api.ReleaseSessionOptions(options)
        api.ReleaseEnv(environment)
    }

    private func check(_ status: OpaquePointer?) throws {
        guard let status else { return }
        defer { api.ReleaseStatus(status) }
        throw ONNXError(errorDescription: api.GetErrorMessage(status).map { String(cString: $0) })
    }

    func run<Element>(
        _ entry: Manifest.TowerEntry, _ values: [Element], _ shape: [Int64], _ type: ONNXTensorElementDataType
    ) throws -> [Float] {
        var values = values
        return try values.withUnsafeMutableBytes { bytes in
            var input: OpaquePointer?
            defer { api.ReleaseValue(input) }
            try check(api.CreateTensorWithDataAsOrtValue(memory, bytes.baseAddress, bytes.count, shape, shape.count, type, &input))
            var output: OpaquePointer?
            defer { api.ReleaseValue(output) }
            try entry.input.name.withCString { inputName in
                try entry.output.name.withCString { outputName in
                    try check(api.Run(session, nil, [inputName], [input], 1, [outputName], 1, &output))
                }
            }
            return try numbers(output)
        }
    }

    private func numbers(_ output: OpaquePointer?) throws -> [Float] {
        var information: OpaquePointer?
        defer { api.ReleaseTensorTypeAndShapeInfo(information) }
        try check(api.GetTensorTypeAndShape(output, &information))
        var count = 0
        try check(api.GetTensorShapeElementCount(information, &count))
        var type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED
        try check(api.GetTensorElementType(information, &type))
        guard type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT else { throw ONNXError(errorDescription: "the model gives no float32") }
        var data: UnsafeMutableRawPointer?
        try check(api.GetTensorMutableData(output, &data))
        guard let data else { throw ONNXError(errorDescription: "the model gives nothing") }
        return Array(UnsafeBufferPointer(start: data.assumingMemoryBound(to: Float.self), count: count))
    }
}
