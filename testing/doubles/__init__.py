"""Doubles of servers that tests break on purpose or that cannot be had."""
