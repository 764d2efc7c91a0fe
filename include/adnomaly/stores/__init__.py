"""What we keep, one module per table, topic or prefix, behind functions named by what they do.

Belongs here: SQL, object keys, file formats, and the guarantee of each write.
Does not: decisions about what to keep (pipelines, incidents) and connections (clients).
"""
