"""Stores, one module per table, topic or prefix.

Belongs here: SQL, object keys, file formats, and the guarantee of each write.
Does not: rules about what to store (pipelines, incidents) and connections (clients).
"""
