"""The forest as an ONNX model of three operators: one tree ensemble, a product, an exponential.

The stock conversion of scikit-learn's forest has thousands of operators and takes milliseconds per row. Here the trees
themselves add up the path lengths: a leaf weighs its depth plus the expected depth of its unfinished part, and the score is
2 ** -(mean path length / usual path length).
"""

from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common._registration import get_shape_calculator
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest

from adnomaly.errors import BundleRejected
from adnomaly.model.train import forest_scores

INPUT: Final = "residuals"
OUTPUT: Final = "anomaly_score"
OPSET: Final = {"": 18, "ai.onnx.ml": 3}
OPERATORS: Final = ("TreeEnsembleRegressor", "Mul", "Exp")

LARGEST_DIFFERENCE: Final = 1e-5
PARITY_ROWS: Final = 40_000
