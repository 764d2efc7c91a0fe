"""Always-on processes, one module each, run with `python -m streaming.<name>`.

Belongs here: arguments, wiring, and the one method that says what a batch becomes.
Does not: the consumer loop (`adnomaly.sinks`), SQL (stores), mathematics (scoring).
"""
