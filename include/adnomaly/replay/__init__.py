"""Replay of foreign click logs through the pipeline.

Belongs here: reading logs, mapping rows to clicks, pacing.
Does not: validation, which handles replayed clicks like all others.
"""
