"""Adnomaly inside Airflow: assets, deferrable operators and triggers, form fields, links.

Belongs here: what imports Airflow and several DAGs share.
Does not: pipelines (`adnomaly.pipelines`) and wiring of one DAG (dags/).
"""
