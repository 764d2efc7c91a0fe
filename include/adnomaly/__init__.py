"""Adnomaly: what every process of the system knows. Top folders are processes, this package is knowledge."""
