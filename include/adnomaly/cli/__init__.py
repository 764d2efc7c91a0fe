"""Command lines: `adnomaly`, and the feature and model commands of `python -m stack`.

Belongs here: options, messages, exit codes.
Does not: work; a command calls one function of the packages below.
"""
