"""The project's version: pyproject.toml, the images and the manifests take it from here."""

VERSION = "0.2.0"
