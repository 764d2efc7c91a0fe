"""Pages derived from code, and screenshots of the running stack.

Belongs here: the writers of `make reference` and `make screenshots`.
Does not: prose, which is in README.md and docs/.
"""
