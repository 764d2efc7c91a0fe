"""Quality of a detector: metrics, backtests, reference detectors, the promotion gate.

Belongs here: labels, ground truth, scenarios, reports, plots, quality benchmarks.
Does not: fitting and scoring, which it only calls.
"""
