"""Persistence, one module per table, topic or prefix; functions are named by their effect.

Belongs here: SQL, object keys, file formats, and the guarantee of each write.
Does not: rules about the content (pipelines, incidents) and connections (clients).
"""
