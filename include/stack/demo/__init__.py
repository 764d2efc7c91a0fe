"""`make demo`: the whole life of a click, driven through Airflow's REST API.

Belongs here: the steps of the demo, following DAG runs, the final report.
Does not: anything that the product needs without a demo.
"""
