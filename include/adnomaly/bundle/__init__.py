"""The sealed model: a folder that is complete and unchanged, or is not loaded.

Belongs here: sealing, verifying, encoding and decoding its files, sentinel rows.
Does not: fitting (detector), scoring (scoring), and which bundle is current (stores).
"""
