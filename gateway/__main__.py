"""``python -m gateway``: the gateway under uvicorn, with settings from the environment (``Settings``)."""

import os
import sys

import uvicorn
from pydantic import ValidationError

from gateway.app import create_app
from gateway.http.handover import listen
from gateway.http.server import server
from gateway.settings import Settings
from gateway.telemetry import logs
from gateway.variables import log_renamed

_USAGE = 2


def main() -> int:
    """Serve until SIGTERM or SIGINT, then drain. Returns 2 for settings that cannot work, with the remedy."""
    try:
        settings = Settings.from_environment()
        logs.configure(settings.log_level)
        log_renamed(os.environ)
        app = create_app(settings)
        folder = settings.handover_dir
        listener = listen(folder, settings.host, settings.port) if folder else None
    except (ValidationError, ValueError, OSError) as error:
        print(f"The gateway cannot start: {error}", file=sys.stderr)  # noqa: T201  -- the person who starts it reads this
        return _USAGE
    running: uvicorn.Server = server(
        app,
        settings,
        host=settings.host,
        port=settings.port,
        keep_alive_s=settings.keep_alive_s,
        # While the process that gave the listener serves, there is time to wait for the engine.
        wait_for=app.state.engine_ready if listener and listener.shared else None,
    )
    running.run(sockets=[listener.socket] if listener else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
