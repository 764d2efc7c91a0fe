"""Consuming a topic into a store whose offsets commit together with the data.

Belongs here: the consumer loop, leases, stored offsets.
Does not: what a batch becomes; that is one method of each entry point in `streaming/`.
"""
