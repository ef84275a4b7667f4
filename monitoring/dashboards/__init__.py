"""Grafana's dashboards, made from code with Grafana's own SDK; users import the JSON files beside it.

``python scripts/dashboards.py`` writes the files. The SDK is in the development environment only.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
