"""A model of click traffic and of attacks on it."""
