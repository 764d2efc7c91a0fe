"""Accept only ONNX models of the kind that the export writes."""

from typing import Final

import onnx
from google.protobuf.message import DecodeError

from adnomaly.errors import BundleRejected

OPERATORS: Final = frozenset({("ai.onnx.ml", "TreeEnsembleRegressor"), ("", "Mul"), ("", "Exp")})
PLAIN_ATTRIBUTES: Final = (
    onnx.AttributeProto.FLOAT,
    onnx.AttributeProto.INT,
    onnx.AttributeProto.STRING,
    onnx.AttributeProto.FLOATS,
    onnx.AttributeProto.INTS,
    onnx.AttributeProto.STRINGS,
)


def check_model(name: str, data: bytes) -> None:
    """Accept only what the export writes.

    Raises:
        BundleRejected: other operators, nested graphs, functions or external data.
    """
    try:
        model = onnx.load_from_string(data)
    except (DecodeError, ValueError) as error:
        raise BundleRejected(f"{name} is not an ONNX model: {error}"[:300]) from None
    foreign = {
        f"{node.domain}:{node.op_type}"
        for node in model.graph.node
        if (node.domain, node.op_type) not in OPERATORS
    }
    if foreign or model.functions or model.graph.sparse_initializer or not model.graph.node:
        raise BundleRejected(
            f"{name} holds operators that are not allowed: "
            f"{', '.join(sorted(foreign)) or 'functions or sparse data'}"
        )
    if any(
        attribute.type not in PLAIN_ATTRIBUTES
        for node in model.graph.node
        for attribute in node.attribute
    ):
        raise BundleRejected(f"{name} nests graphs or tensors in its operators")
    if any(
        t.data_location == onnx.TensorProto.EXTERNAL or t.external_data
        for t in model.graph.initializer
    ):
        raise BundleRejected(f"{name} refers to data outside the file")
