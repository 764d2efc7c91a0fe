"""The steps of each DAG as plain functions; one module per DAG, same name."""
