"""Quality of a detector: metrics, backtests, reference detectors, the promotion gate.

Belongs here: labels, ground truth, scenarios, reports, plots, benchmarks of quality.
Does not: fitting and scoring, which it only calls.
"""

import logging

# Before its import: that it builds a list of fonts is no news for who reads the log of a training.
logging.getLogger("matplotlib").setLevel(logging.WARNING)
