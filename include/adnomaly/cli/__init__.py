"""Command lines: `adnomaly`, and the feature and model commands of `python -m stack`.

Belongs here: options, messages for a person, exit codes.
Does not: work; a command calls one function of the packages below.
"""
