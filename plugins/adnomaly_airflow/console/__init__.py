"""The page *Adnomaly* in Airflow's UI: streams, incidents, decisions, model.

Belongs here: HTTP routes, access rules, static files.
Does not: queries (stores) and rules (incidents, monitoring).
"""
