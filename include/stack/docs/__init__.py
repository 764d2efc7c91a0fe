"""Pages and pictures derived from code, and screenshots of what runs.

Belongs here: what `make reference` and `make screenshots` write.
Does not: prose, which stands in README.md and docs/.
"""
