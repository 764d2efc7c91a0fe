"""Quality of a detector: metrics, backtests, reference detectors, the promotion gate.

Belongs here: labels, ground truth, scenarios, reports, plots, benchmarks of quality.
Does not: fitting and scoring, which it only calls.
"""
