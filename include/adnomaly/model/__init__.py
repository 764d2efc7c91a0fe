"""The detector: preprocess, train, evaluate, export, bundle, score."""
