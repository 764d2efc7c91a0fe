"""Scores from a bundle: single rows, files, and the stream in context.

Belongs here: everything between a loaded bundle and a score with its explanation.
Does not: fitting (detector), HTTP (serving/), Kafka (streaming/).
"""
