"""A Google provider of our own for Pulumi's engine, with a small cloud on disk behind it.

``pulumi-resource-gcp`` in ``bin`` is what the engine starts. It speaks Pulumi's provider protocol, checks inputs
against the installed ``pulumi_gcp``, and keeps Google's rules for the types in ``kinds``.
"""
