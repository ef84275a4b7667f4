"""The folders of target local: everything that it makes is in one folder, which ``make clean`` removes."""

from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Paths:
    """The folders of one clone: ``source`` is the clone, ``home`` contains everything that is made there."""

    source: Path = SOURCE
    home: Path = SOURCE / ".run"

    def python(self, environment: str) -> Path:
        """Return the interpreter of a virtual environment: control, gateway or serving."""
        return self.home / "venvs" / environment / "bin" / "python"

    @property
    def store(self) -> Path:
        """The model store."""
        return self.home / "models"

    @property
    def repository(self) -> Path:
        """Triton's model repository."""
        return self.home / "triton"

    @property
    def config(self) -> Path:
        """The settings of the running processes."""
        return self.home / "etc"

    @property
    def log(self) -> Path:
        """The logs of every process, rotated by supervisor."""
        return self.home / "log"

    @property
    def keys(self) -> Path:
        """The hashed API keys."""
        return self.config / "keys.json"

    @property
    def gateway_env(self) -> Path:
        """The running gateway's environment, secrets included."""
        return self.config / "gateway.env"

    @property
    def supervisor_config(self) -> Path:
        """The configuration of supervisord and its programs."""
        return self.config / "supervisord.conf"

    @property
    def socket(self) -> Path:
        """The socket of supervisord, in a folder that only its owner may enter."""
        return self.config / "supervisor.sock"

    @property
    def gateways(self) -> Path:
        """The sockets through which a gateway takes the listener of the one that it replaces."""
        return self.config / "gateways"

    @property
    def trial(self) -> Path:
        """The engine's repository and the logs of settings that are tried beside the running service."""
        return self.home / "trial"

    @property
    def trial_log(self) -> Path:
        """Logs of what was tried last, apart from those of what serves."""
        return self.trial / "log"

    @property
    def previous(self) -> Path:
        """The settings that served before a change that has not ended."""
        return self.home / "previous"

    @property
    def timings(self) -> Path:
        """Seconds that each phase of the last run took, written by the ``phases`` callback."""
        return self.home / "phases.json"

    @property
    def speeds(self) -> Path:
        """Tokens per second of each model that was served here (``assist.speeds``)."""
        return self.home / "speeds.json"

    @property
    def client_env(self) -> Path:
        """The variables for clients: ``ASSIST_URL`` and ``ASSIST_KEY``."""
        return self.home / "env"
