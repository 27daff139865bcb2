"""Hosts: users who offer their time, by a schedule or slot by slot."""
