"""Export the forest as an ONNX model of three operators: tree ensemble, product, exponential.

The stock conversion of scikit-learn's forest has thousands of operators and takes milliseconds per
row. Here the tree ensemble sums the path lengths: the weight of a leaf is its depth plus the
expected depth of its unsplit rows, and the score is 2 ** -(mean path length / expected one).
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest

from adnomaly.arrays import Floats, Floats32, Ints
from adnomaly.detector.forest import forest_scores
from adnomaly.detector.onnx_session import CLIP, INPUT, OUTPUT, open_session, run
from adnomaly.errors import BundleRejected

OPSET: Final = {"": 18, "ai.onnx.ml": 3}

MAX_DIFFERENCE: Final = 1e-5
PARITY_ROWS: Final = 40_000


class ForestScore(OutlierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A fitted forest with the score as its only output; `_convert` is registered for it."""

    def __init__(self, forest: IsolationForest) -> None:
        self.forest = forest


class Parity(NamedTuple):
    """Export against reference: rows, largest difference, rows that change sides."""

    rows: int
    largest_difference: float
    flips: int


def export_forest(forest: IsolationForest) -> bytes:
    """The ONNX model: input `residuals` (n, F) float32, output `anomaly_score` (n,) float32."""
    initial = [(INPUT, FloatTensorType([None, forest.n_features_in_]))]
    model = to_onnx(ForestScore(forest), initial_types=initial, target_opset=OPSET)
    data: bytes = model.SerializeToString()
    return data


def check_parity(
    forest: IsolationForest,
    model: bytes,
    residuals: Floats32,
    threshold: float,
    *,
    seed: int,
    rows: int = PARITY_ROWS,
) -> Parity:
    """Compare on real rows, wide random rows, and rows exactly on split thresholds.

    Raises:
        BundleRejected: a score differs by more than 1e-5, or a row changes sides at the threshold.
    """
    probes = _probes(forest, residuals, rows, np.random.default_rng(seed))
    reference, exported = forest_scores(forest, probes), run(open_session(model), probes)
    difference = float(np.abs(reference - exported).max())
    # A score within rounding of the threshold has no side.
    apart = np.abs(reference - threshold) > MAX_DIFFERENCE / 10
    flips = int(np.sum(((reference >= threshold) != (exported >= threshold)) & apart))
    if not difference <= MAX_DIFFERENCE or flips:
        raise BundleRejected(
            f"model.onnx differs from the forest by up to {difference:.2g} "
            f"over {len(probes)} rows, {flips} of them change sides; "
            f"allowed are {MAX_DIFFERENCE:g} and 0"
        )
    return Parity(len(probes), difference, flips)


def _probes(
    forest: IsolationForest, residuals: Floats32, rows: int, rng: np.random.Generator
) -> Floats32:
    part = rows // 4
    real = residuals[rng.integers(0, len(residuals), 2 * part)]
    wide = rng.uniform(-CLIP, CLIP, (part, residuals.shape[1]))
    edges = residuals[rng.integers(0, len(residuals), rows - 3 * part)].astype(np.float64)
    trees = [tree.tree_ for tree in forest.estimators_]
    splits = [
        (int(f), float(t))
        for tree in trees
        for f, t in zip(tree.feature, tree.threshold, strict=True)
        if f >= 0
    ]
    for i, choice in enumerate(rng.integers(0, len(splits), len(edges))):
        feature, threshold = splits[choice]
        # The float32 below, at and above a threshold: wrong rounding would take the other branch.
        near = np.float32(threshold)
        edges[i, feature] = (
            np.nextafter(near, np.float32(-np.inf)),
            near,
            np.nextafter(near, np.float32(np.inf)),
        )[i % 3]
    return np.concatenate([real, wide, edges]).astype(np.float32)


def _expected_depth(samples: Floats | Ints) -> Floats:
    """Mean path length in a tree of n samples: c(n) of Liu et al., Isolation Forest, 2008."""
    count = np.asarray(samples, np.float64)
    large = np.maximum(count, 3)
    harmonic = 2 * (np.log(large - 1) + np.euler_gamma) - 2 * (large - 1) / large
    return np.where(count <= 1, 0.0, np.where(count <= 2, 1.0, harmonic))


def _depths(tree: Any) -> Floats:
    """Edges from the root to each node; parents come before their children."""
    depths = np.zeros(tree.node_count)
    for node in np.flatnonzero(tree.children_left >= 0):
        depths[[tree.children_left[node], tree.children_right[node]]] = depths[node] + 1
    return depths


def _rounded_down(thresholds: Floats) -> Floats32:
    """The largest float32 <= each threshold: x <= t is unchanged for every float32 x."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _ensemble(forest: IsolationForest) -> dict[str, Any]:
    """Attributes of TreeEnsembleRegressor: all nodes of all trees, and a weight per leaf."""
    nodes: dict[str, list[npt.NDArray[Any]]] = {}
    leaves: dict[str, list[npt.NDArray[Any]]] = {}
    for number, estimator in enumerate(forest.estimators_):
        tree = estimator.tree_
        leaf = tree.children_left < 0
        columns = {
            "treeids": np.full(tree.node_count, number),
            "nodeids": np.arange(tree.node_count),
            "featureids": np.where(leaf, 0, tree.feature),
            "values": np.where(leaf, np.float32(0), _rounded_down(tree.threshold)),
            "truenodeids": np.where(leaf, 0, tree.children_left),
            "falsenodeids": np.where(leaf, 0, tree.children_right),
            "modes": np.where(leaf, "LEAF", "BRANCH_LEQ"),
        }
        ends = np.flatnonzero(leaf)
        weights = _depths(tree)[ends] + _expected_depth(tree.n_node_samples[ends])
        for name, column in columns.items():
            nodes.setdefault(f"nodes_{name}", []).append(column)
        for name, column in {
            "treeids": np.full(len(ends), number),
            "nodeids": ends,
            "weights": weights.astype(np.float32),
        }.items():
            leaves.setdefault(f"target_{name}", []).append(column)
    attributes = {name: np.concatenate(parts).tolist() for name, parts in (nodes | leaves).items()}
    return attributes | {"target_ids": [0] * len(attributes["target_nodeids"])}


def _convert(scope: Any, operator: Any, container: Any) -> None:
    forest = operator.raw_operator.forest
    total, exponent = (scope.get_unique_variable_name(name) for name in ("total_path", "exponent"))
    container.add_node(
        "TreeEnsembleRegressor",
        operator.inputs[0].full_name,
        total,
        op_domain="ai.onnx.ml",
        op_version=OPSET["ai.onnx.ml"],
        name=scope.get_unique_operator_name("trees"),
        n_targets=1,
        **_ensemble(forest),
    )
    factor = -np.log(2) / (
        len(forest.estimators_) * float(_expected_depth(np.asarray(forest.max_samples_)))
    )
    constant = scope.get_unique_variable_name("factor")
    container.initializers.append(numpy_helper.from_array(np.array([factor], np.float32), constant))
    container.add_node(
        "Mul",
        [total, constant],
        exponent,
        op_version=14,
        name=scope.get_unique_operator_name("mul"),
    )
    container.add_node(
        "Exp",
        exponent,
        operator.outputs[0].full_name,
        op_version=13,
        name=scope.get_unique_operator_name("exp"),
    )


def _shape(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), 1])


def _parse(scope: Any, model: Any, inputs: list[Any], custom_parsers: Any = None) -> Any:
    operator = scope.declare_local_operator("AdnomalyForestScore", model)
    operator.inputs.extend(inputs)
    operator.outputs.append(scope.declare_local_variable(OUTPUT, FloatTensorType()))
    return operator.outputs


update_registered_converter(ForestScore, "AdnomalyForestScore", _shape, _convert, parser=_parse)
