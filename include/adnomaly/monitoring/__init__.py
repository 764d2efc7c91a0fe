"""Whether the system works: stages, reconciliation of counts, drift, feature parity.

Belongs here: what to measure, limits, and the collector that asks every server.
Does not: restarting (pipelines) and storage of the results (stores).
"""
