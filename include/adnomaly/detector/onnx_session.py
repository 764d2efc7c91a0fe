"""Run an exported model. Separate from the export: scoring loads no training library."""

from functools import lru_cache
from typing import Final

import numpy as np
import onnxruntime

from adnomaly.arrays import Floats32

INPUT: Final = "residuals"
OUTPUT: Final = "anomaly_score"
CLIP: Final = 30.0
"""Inputs are clipped here: beyond it a forest is constant."""


@lru_cache(maxsize=8)
def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread, cached per model: a run is shorter than a thread switch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, inputs: Floats32) -> Floats32:
    """Scores (n,) of inputs (n, F)."""
    return np.asarray(session.run([OUTPUT], {INPUT: inputs})[0]).reshape(-1)
