"""Throw-away Debian hosts, booted with systemd on a closed network of their own; README.md says how.

The lab itself is ``cli`` and what it imports, with the standard library alone. ``driver`` and the modules
that import it are what tests and benchmarks do with the hosts: run playbooks, ask as a client on the LAN,
compare states.
"""
