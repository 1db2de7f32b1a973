"""Names in the files of traces, of towers of every kind of network and of classifiers."""

__all__ = ["CALLED", "GLOBALS", "PICKLED", "SYNTAX"]

OPERATORS = """
_convolution abs add amax cat chunk clamp div embedding eq expand flatten gelu layer_norm linear matmul mean mul permute
relu reshape rsub scaled_dot_product_attention select sigmoid size slice softmax sqrt squeeze sub sum to transpose
unsqueeze
"""
NODES = """
AnnAssign Assign Attribute Call ClassDef Constant FunctionDef List Load Module Name Return Store Subscript Tuple USub
UnaryOp arg arguments
"""
OPERATIONS = """
APPENDS BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE BUILD EMPTY_DICT EMPTY_LIST EMPTY_TUPLE GLOBAL
LONG_BINGET LONG_BINPUT MARK NEWFALSE NEWOBJ NEWTRUE NONE PROTO REDUCE SETITEMS STOP TUPLE TUPLE1 TUPLE2
"""
CALLED = frozenset({f"torch.{name}" for name in OPERATORS.split()} | {"ops.prim.NumToTensor", "getattr", "int"})
"""Functions that code calls, apart from the `forward` of its modules."""
SYNTAX = frozenset(NODES.split())
"""The kinds of nodes of code, as Python's `ast` calls them."""
PICKLED = frozenset(OPERATIONS.split())
"""The operations of pickles, as `pickletools` calls them."""
GLOBALS = frozenset(
    {
        "collections OrderedDict",
        "torch DoubleStorage",
        "torch FloatStorage",
        "torch IntStorage",
        "torch LongStorage",
        "torch._utils _rebuild_tensor_v2",
        "torch.jit._pickle restore_type_tag",
    }
)
"""Names in pickles, apart from the classes of the archive's own code."""
