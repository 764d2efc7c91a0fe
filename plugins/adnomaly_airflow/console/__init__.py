"""The page *Adnomaly* in Airflow's UI: what is flowing, what looks wrong, what was decided, which model judges."""
