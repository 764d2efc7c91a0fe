"""Clients of outside servers, one module each: connect, call, name the failure.

Belongs here: protocols, authentication, timeouts, the calls that Adnomaly needs.
Does not: names of tables and topics, rules about clicks or windows.
"""
