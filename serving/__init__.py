"""The scoring API and its deployment on Ray Serve.

Belongs here: the HTTP shape, decoding of bodies, the model slot of a replica.
Does not: scoring (`adnomaly.scoring`) and rollouts (pipelines).
"""
