"""Brings models into a store that a server reads: complete, verified and immutable, or not at all.

The layout, the publish order and every refusal are specified in the design's decision 4; ``store`` holds the
layout, ``download`` the transfer, ``publish`` the last step. Correctness never depends on a lock.
"""
