"""The detector's mathematics, fitted on history, in the order of the work.

Belongs here: baselines, forecast, whitening, forest, smoothing, grouping, thresholds. Pure: arrays in, arrays out.
Does not: files of a bundle (bundle), explanations (scoring), metrics (evaluation).
"""
