"""Sending anyone's click log through the real path.

Belongs here: reading logs, mapping rows to clicks, pacing.
Does not: validation, which judges replayed clicks like all others.
"""
