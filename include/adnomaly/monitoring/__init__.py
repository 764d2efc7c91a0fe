"""Monitoring: stages, reconciliation of click counts, drift, feature parity.

Belongs here: measurements, limits, and the collector that asks every server.
Does not: restarting (pipelines) and storage of the results (stores).
"""
