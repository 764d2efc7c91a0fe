"""Kafka clients: administration, transactional processing, tracked producing, reading without a
group.

Belongs here: anything that builds a `confluent_kafka` object.
Does not: what a message means, and sinks with stored offsets (`adnomaly.sinks`).
"""
