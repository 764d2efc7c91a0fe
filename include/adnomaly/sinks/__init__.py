"""Consumers that write a topic into a store and commit offsets together with the data.

Belongs here: the consumer loop, leases, stored offsets.
Does not: the write of one batch, which each entry point in `streaming/` implements.
"""
