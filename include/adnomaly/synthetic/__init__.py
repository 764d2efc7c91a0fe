"""Synthetic traffic: realistic clicks and windows with labelled attacks, reproducible by seed.

Belongs here: traffic, its variation, attack planning, encoding of generated clicks.
Does not: anything that a system without a generator needs.
"""
