"""The product: everything that Adnomaly's processes share. Top-level folders are entry points.

Belongs here: domain, detector, clients, stores, pipelines. Modules at the root are the domain
(events, features, windows, streams, ...) and small tools (settings, retry, files).
Does not: processes (streaming/, serving/), Airflow (dags/, plugins/), native servers (stack).
"""
