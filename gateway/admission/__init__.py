"""Admission control: how many requests run at once, how many wait, and how much each caller may use."""
