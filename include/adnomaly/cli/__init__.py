"""Command lines: `adnomaly`, and the feature and model commands of `python -m stack`.

Belongs here: options, messages for people, exit codes.
Does not: work; a command calls one function of another package.
"""
