"""The tables of a .tflite, as `schema.fbs` of LiteRT 2.3 lists their fields, in the form of `flatbuffer.Decoder`."""

from __future__ import annotations

__all__ = ["DTYPES", "IDENTIFIER", "OPERATORS", "SCHEMAS"]

IDENTIFIER = b"TFL3"

# TensorType -> what numpy calls it, little-endian as all that flatbuffers hold.
DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 6: "?", 7: "<i2", 9: "i1", 10: "<f8", 15: "<u4", 16: "<u2"}

# BuiltinOperator, by number.
OPERATORS = (  # noqa: SIM905
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR "
    "FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION "
    "LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH "
    "CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER "
    "BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE "
    "BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM "
    "ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE "
    "TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK "
    "LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL "
    "FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL "
    "REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND "
    "HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM "
    "BATCH_MATMUL PLACEHOLDER CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE "
    "HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE "
    "ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU "
    "DYNAMIC_UPDATE_SLICE RELU_0_TO_1"
).split()

# The members of the union BuiltinOptions, in order. Of those without fields here a conversion writes none that has any.
OPTIONS = {
    "Conv2D": "padding:b stride_w:i stride_h:i activation:b dilation_w:i dilation_h:i bias_type:b",
    "DepthwiseConv2D": "padding:b stride_w:i stride_h:i multiplier:i activation:b dilation_w:i dilation_h:i",
    "ConcatEmbeddings": "",
    "LSHProjection": "",
    "Pool2D": "padding:b stride_w:i stride_h:i filter_w:i filter_h:i activation:b",
    "SVDF": "",
    "RNN": "",
    "FullyConnected": "activation:b format:b keep_dims:? asymmetric_inputs:? bias_type:b spec:-",
    "Softmax": "beta:f",
    "Concatenation": "axis:i activation:b",
    "Add": "activation:b pot_scale_int16:?",
    "L2Norm": "",
    "LocalResponseNormalization": "",
    "LSTM": "",
    "ResizeBilinear": "",
    "Call": "",
    "Reshape": "shape:[i]",
    "SkipGram": "",
    "SpaceToDepth": "",
    "EmbeddingLookupSparse": "",
    "Mul": "activation:b",
    "Pad": "",
    "Gather": "axis:i batch_dims:i",
    "BatchToSpaceND": "",
    "SpaceToBatchND": "",
    "Transpose": "",
    "Reducer": "keep_dims:?",
    "Sub": "activation:b pot_scale_int16:?",
    "Div": "activation:b",
    "Squeeze": "dims:[i]",
    "SequenceRNN": "",
    "StridedSlice": "begin:i end:i ellipsis:i new_axis:i shrink_axis:i offset:?",
    "Exp": "",
    "TopKV2": "",
    "Split": "splits:i",
    "LogSoftmax": "",
    "Cast": "from:b to:b",
    "Dequantize": "",
    "MaximumMinimum": "",
    "ArgMax": "type:b",
    "Less": "",
    "Neg": "",
    "PadV2": "",
    "Greater": "",
    "GreaterEqual": "",
    "LessEqual": "",
    "Select": "",
    "Slice": "",
    "TransposeConv": "",
    "SparseToDense": "",
    "Tile": "",
    "ExpandDims": "",
    "Equal": "",
    "NotEqual": "",
    "Shape": "type:b",
    "Pow": "",
    "ArgMin": "",
    "FakeQuant": "",
    "Pack": "count:i axis:i",
    "LogicalOr": "",
    "OneHot": "",
    "LogicalAnd": "",
    "LogicalNot": "",
    "Unpack": "count:i axis:i",
    "FloorDiv": "",
    "Square": "",
    "ZerosLike": "",
    "Fill": "",
    "BidirectionalSequenceLSTM": "",
    "BidirectionalSequenceRNN": "",
    "UnidirectionalSequenceLSTM": "",
    "FloorMod": "",
    "Range": "",
    "ResizeNearestNeighbor": "",
    "LeakyRelu": "",
    "SquaredDifference": "",
    "MirrorPad": "",
    "Abs": "",
    "SplitV": "",
    "Unique": "",
    "ReverseV2": "",
    "AddN": "",
    "GatherNd": "",
    "Cos": "",
    "Where": "",
    "Rank": "",
    "ReverseSequence": "",
    "MatrixDiag": "",
    "Quantize": "",
    "MatrixSetDiag": "",
    "HardSwish": "",
    "If": "",
    "While": "",
    "DepthToSpace": "",
    "NonMaxSuppressionV4": "",
    "NonMaxSuppressionV5": "",
    "ScatterNd": "",
    "SelectV2": "",
    "Densify": "",
    "SegmentSum": "",
    "BatchMatMul": "adjoint_x:? adjoint_y:? asymmetric_inputs:?",
    "Cumsum": "",
    "CallOnce": "",
    "BroadcastTo": "",
    "Rfft2d": "",
    "Conv3D": "",
    "Hashtable": "",
    "HashtableFind": "",
    "HashtableImport": "",
    "HashtableSize": "",
    "VarHandle": "",
    "ReadVariable": "",
    "AssignVariable": "",
    "Random": "",
    "Bucketize": "",
    "Gelu": "approximate:?",
}
QUANTIZATIONS = {
    "Custom": "custom:[B]",
    "Blockwise": "scales:i zero_points:i block_size:i",
}
SCHEMAS = {
    **OPTIONS,
    **QUANTIZATIONS,
    "Model": "version:I codes:[OperatorCode] subgraphs:[SubGraph] description:text buffers:[Buffer] "
    "metadata_buffer:[i] metadata:[Metadata] signatures:[Signature]",
    "OperatorCode": "old_code:b custom:text version:i code:i",
    "SubGraph": "tensors:[Tensor] inputs:[i] outputs:[i] operators:[Operator] name:text debug:i",
    "Tensor": "shape:[i] type:b buffer:I name:text quantization:Quantization variable:? sparsity:- signature:[i] "
    "has_rank:? variants:-",
    "Quantization": f"min:[f] max:[f] scale:[f] zero_point:[q] details:{'|'.join(QUANTIZATIONS)} axis:i",
    "Operator": f"code:I inputs:[i] outputs:[i] options:{'|'.join(OPTIONS)} custom:[B] custom_format:b mutating:[?] "
    "intermediates:[i] large_offset:Q large_size:Q more_type:- more:- debug:i",
    "Buffer": "data:[B] offset:Q size:Q",
    "Metadata": "name:text buffer:I",
    "Signature": "inputs:[Named] outputs:[Named] key:text subgraph:I",
    "Named": "name:text tensor:I",
}
