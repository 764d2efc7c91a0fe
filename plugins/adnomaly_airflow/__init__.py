"""What our DAGs share inside Airflow: defaults, assets, deferrable operators and their triggers, and the UI's safety header."""
