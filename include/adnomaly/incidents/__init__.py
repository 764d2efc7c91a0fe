"""Incidents and the decisions about them.

Belongs here: rules of decisions, snoozes and evidence, and the service that applies them.
Does not: SQL (stores), grouping of windows (detector), the page (plugins/).
"""
