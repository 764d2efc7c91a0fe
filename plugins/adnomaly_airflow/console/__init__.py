"""The page *Adnomaly* in Airflow's UI: what flows, what looks wrong, what was decided, which model scores.

Belongs here: HTTP routes, access rules, static files.
Does not: queries (stores) and rules (incidents, monitoring).
"""
