"""Changes to a program: weights restored once instead of in every inference, float16 raised to float32."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.coreai.asset import Asset, operations, tensor_type
from mobileclip_deploy.targets.coreai.weights import RESTORED, restored
from mobileclip_deploy.targets.vendor_internals.coreai import mlir

PRODUCTS = ("coreai.decomposable.broadcasting_batch_matmul", "coreai.conv2d")


def restore_weights(asset: Asset, *, whole: bool = False) -> bool:
    """Replaces operations that restore weights from integers and tables by constants. Returns whether there were any.

    Apple's runtime for Linux runs these in every inference: in nano's text tower at 8 bits they are 99% of the time.

    Args:
        whole: in float32, nothing rounded, for a program that is about to be raised to it; else as the operations would
            compute them.
    """
    restoring = [
        op for graph in asset.graphs.values() for op in operations(graph) if op.name.removeprefix("coreai.") in RESTORED
    ]
    for operation in restoring:
        result = operation.results[0]
        dtype = "float32" if whole else tensor_type(result).dtype
        numbers = restored(asset, operation).values.astype(dtype)
        result.replace_all_uses_with(_constant(asset, numbers, operation))
        operation.operation.erase()
    return bool(restoring)


def widen_products(asset: Asset) -> bool:
    """Computes matrix products and convolutions of float16 in float32 and rounds their results. Returns whether there
    were any.

    In float16 Apple's runtime for Linux takes 45 times as long for the products of nano's text tower (0.66 s an
    inference). For the convolutions of its image tower it takes twice as long.
    """
    ir = mlir()
    products = [op for graph in asset.graphs.values() for op in operations(graph) if op.name in PRODUCTS]
    products = [op for op in products if tensor_type(op.results[0]).dtype == "float16"]
    for product in products:
        result, point = product.results[0], ir.InsertionPoint(product)
        with asset.module.context, ir.Location.unknown():
            # A convolution also has strides and padding as operands: integers.
            operands = [
                _cast(operand, _wide(operand), point) if tensor_type(operand).dtype == "float16" else operand
                for operand in product.operands
            ]
            attributes = {attribute.name: attribute.attr for attribute in product.operation.attributes}
            exact: Any = ir.Operation.create(
                product.name, results=[_wide(result)], operands=operands, attributes=attributes, ip=point
            )
            rounded = _cast(exact.results[0], result.type, point)
        result.replace_all_uses_with(rounded)
        product.operation.erase()
    return bool(products)


def _wide(value: Any) -> Any:
    """Returns the type of a value in float32."""
    return mlir().RankedTensorType.get(tensor_type(value).shape, mlir().F32Type.get())


def _cast(value: Any, kind: Any, at: Any) -> Any:
    made: Any = mlir().Operation.create("coreai.cast", results=[kind], operands=[value], ip=at)
    return made.results[0]


def raise_to_float32(asset: Asset) -> None:
    """Turns every float16 constant and result into float32, with nothing rounded in between; inputs and outputs already
    are."""
    for graph in asset.graphs.values():
        for argument in graph.regions[0].blocks[0].arguments:
            _raise(argument)
        for operation in list(operations(graph)):
            if not len(operation.results):
                continue
            half = tensor_type(operation.results[0]).dtype == "float16"
            if operation.name == "coreai.constant" and half:
                numbers = asset.numbers(operation).astype(np.float32)
                operation.results[0].replace_all_uses_with(_constant(asset, numbers, operation))
                operation.operation.erase()
                continue
            for result in operation.results:
                _raise(result)
            if operation.name == "coreai.cast" and operation.operands[0].type == operation.results[0].type:
                operation.results[0].replace_all_uses_with(operation.operands[0])
                operation.operation.erase()
        declare(graph, asset.module)


def declare(graph: Any, module: Any) -> None:
    """Updates a function's declared types of inputs and outputs after they changed."""
    ir = mlir()
    block = graph.regions[0].blocks[0]
    results = list(operations(graph))[-1].operands
    with module.context:
        kind = ir.FunctionType.get([value.type for value in block.arguments], [value.type for value in results])
        graph.attributes["function_type"] = ir.TypeAttr.get(kind)


def _raise(value: Any) -> None:
    if tensor_type(value).dtype == "float16":
        with value.type.context, mlir().Location.unknown():
            value.set_type(_wide(value))


def _constant(asset: Asset, numbers: npt.NDArray[Any], before: Any) -> Any:
    """Adds a new constant, whose elements can be read like those of the file."""
    ir = mlir()
    numbers = np.asarray(numbers, order="C")
    with asset.module.context, ir.Location.unknown():
        value = ir.constant(numbers, ip=ir.InsertionPoint(before))
    asset.keep(value.owner, numbers)
    return value
