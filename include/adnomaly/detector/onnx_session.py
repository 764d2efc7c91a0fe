"""Running an exported model; apart from the export, so that a scoring process loads no training library."""

from functools import lru_cache
from typing import Final

import numpy as np
import onnxruntime

INPUT: Final = "residuals"
OUTPUT: Final = "anomaly_score"
CLIP: Final = 30.0
"""Coordinates beyond this say nothing more to a forest."""


@lru_cache(maxsize=8)
def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread, as it is served: the model takes microseconds, threads would only wait for each other.

    Opened once for each model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, residuals: np.ndarray) -> np.ndarray:
    """Scores of residuals (n, F) float32, (n,) float32; the output is taken by its name."""
    return session.run([OUTPUT], {INPUT: residuals})[0].reshape(-1)
