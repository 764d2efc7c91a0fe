"""Aliases of numpy array types, one per kind of value.

Shapes stand in docstrings: T rows of time, E entities, F features, n anything else.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
"""What ONNX models take and return."""
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
