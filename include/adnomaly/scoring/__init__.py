"""A bundle answers: single rows, files, and the stream with its history.

Belongs here: everything between a loaded bundle and a score with its explanation.
Does not: fitting (detector), HTTP (serving/), Kafka (streaming/).
"""
