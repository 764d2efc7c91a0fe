"""Sends any click log through the real path.

Belongs here: reading logs, mapping rows to clicks, pacing.
Does not: validation, which treats replayed clicks like all others.
"""
