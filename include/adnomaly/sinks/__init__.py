"""Consuming a topic into a store: at least once, or with offsets that commit together with the
data.

Belongs here: the consumer loop, leases, stored offsets.
Does not: what a batch becomes; that is the `write` method of each entry point in `streaming/`.
"""
