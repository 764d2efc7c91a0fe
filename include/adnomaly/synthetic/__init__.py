"""Synthetic traffic: realistic clicks and windows with labelled attacks, reproducible by seed.

Belongs here: the traffic model, its variation, planting attacks, encoding generated clicks.
Does not: anything that a system without a generator needs (attack kinds are in the domain).
"""
