"""All dashboards, by the names of their files."""

from monitoring.dashboards import engine, machines, service


def files() -> dict[str, str]:
    """Return the content of each JSON file by its name."""
    made = {
        "service": service.service(),
        "engine": engine.engine(),
        "capacity": engine.capacity(),
        "users": service.users(),
        "updates": machines.updates(),
        "host": machines.host(),
        "pod": machines.pod(),
    }
    return {f"{name}.json": text for name, text in made.items()}
