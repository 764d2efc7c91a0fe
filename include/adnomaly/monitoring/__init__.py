"""Health of the system: stages, reconciliation of counts, drift, feature parity.

Belongs here: metrics and their limits, and the collector that queries every server.
Does not: restarting (pipelines) and storing results (stores).
"""
