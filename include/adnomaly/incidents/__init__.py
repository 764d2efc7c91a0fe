"""Incidents and people's decisions about them.

Belongs here: the rules of decisions, snoozes and evidence, and the service that applies them.
Does not: SQL (stores), grouping of windows (detector), the page (plugins/).
"""
