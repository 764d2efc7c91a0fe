"""The steps of each DAG as plain functions: one module per DAG, same name.

Belongs here: the order of work, idempotence, logging.
Does not: Airflow (dags/, plugins/), SQL (stores), mathematics (detector).
"""
