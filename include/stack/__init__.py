"""The native stack: every server as a process under supervisord, without Docker."""
