"""Clients of outside servers, one module each: connect, call, and name the failure.

Belongs here: protocols, authentication, timeouts, the few calls that we need.
Does not: names of our tables and topics, rules about clicks or windows.
"""
