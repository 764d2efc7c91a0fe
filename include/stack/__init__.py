"""The native stack: every server of the system as a real process under supervisord, without Docker.

Belongs here: set-up, ports, configuration and readiness of servers, the demo, generated docs.
Does not: anything that the product needs once its servers run elsewhere.
"""
