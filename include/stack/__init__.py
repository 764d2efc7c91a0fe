"""The native profile: every server of the system as a real process under supervisord, without Docker."""
