"""The detector: fitted on history, it scores the windows that follow.

Belongs here: the mathematics, arrays in and arrays out.
Does not: files of a bundle (bundle), explanations (scoring), metrics (evaluation).

Modules in the order of the work:
    spec, windows, grid                     input: entities, features, a dense array
    transforms, day_curve, variance         parts of the seasonal baseline
    baseline, seasonal, rolling             expected value and standard deviation of each feature
    forecast                                residual forecast from earlier windows
    residuals, stages                       the chain up to innovations, and its fit
    whitening, forest, onnx_export          independent coordinates, isolation forest, its export
    feature_sets, onnx_session              raw score and normalised score
    smoothing, thresholds, grouping         persistence, budget of false incidents, incidents
    scores, detector                        all of it
"""
