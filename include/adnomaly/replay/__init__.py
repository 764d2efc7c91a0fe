"""Anybody's click log, sent through the real path: `mapping` (what a row means), `read` (files), `send` (pace and delivery)."""
