"""`make demo`: one click's whole life, driven through Airflow's REST API.

Belongs here: the story, following DAG runs, what is printed at the end.
Does not: anything that the product needs without a demo.
"""
