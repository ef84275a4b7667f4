"""The `assist` command: plan, run and look after one deployment."""
