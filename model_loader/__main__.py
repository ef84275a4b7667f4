"""Runs the command line as ``python -m model_loader``."""

from model_loader.cli import main

main()
