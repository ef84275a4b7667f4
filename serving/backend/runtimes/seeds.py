"""Seed CTranslate2's random numbers per request.

CTranslate2 draws from one ``std::mt19937`` per worker thread, seeded once from the system; its public
``set_random_seed`` reaches only threads that have not drawn yet. The engine itself is reachable: the library
exports ``ctranslate2::get_random_generator()``, which returns the calling thread's engine. Called from a
generation callback, which CTranslate2 runs in the worker thread, it gives the engine that the next draws of
that batch come from. On a GPU the draws come from cuRAND states on the device instead, which nothing exported
reaches.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import ctranslate2
import numpy as np

_SYMBOL = "_ZN11ctranslate220get_random_generatorEv"
_STATE_SIZE = 624


class _Engine(ctypes.Structure):
    """libstdc++'s ``std::mt19937``: 624 words of ``uint_fast32_t`` (64 bits), then the position."""

    _fields_ = (("words", ctypes.c_uint64 * _STATE_SIZE), ("position", ctypes.c_size_t))


class SeedingUnavailableError(Exception):
    """A build of CTranslate2 that does not let us seed; the message says why."""


class ThreadSeeder:
    """Sets the random engine of the thread that calls it."""

    def __init__(self) -> None:
        """Find the engine and check that it looks as expected. Raises ``SeedingUnavailableError``."""
        libraries = sorted(
            (Path(ctranslate2.__file__).parent.parent / "ctranslate2.libs").glob("libctranslate2*")
        )
        if not libraries:
            raise SeedingUnavailableError("no libctranslate2 beside the Python package")
        try:
            self._engine_of_thread = getattr(ctypes.CDLL(str(libraries[0])), _SYMBOL)
        except (OSError, AttributeError) as error:
            raise SeedingUnavailableError(f"{libraries[0].name} does not export its random engine") from error
        self._engine_of_thread.restype = ctypes.POINTER(_Engine)
        self._check(self._engine_of_thread().contents)

    def seed(self, seeds: Sequence[int]) -> None:
        """Put the calling thread's engine into the state that follows from ``seeds``."""
        state = np.random.RandomState([seed & 0xFFFFFFFF for seed in seeds]).get_state(legacy=False)
        engine = self._engine_of_thread().contents
        engine.words[:] = [int(word) for word in state["state"]["key"]]
        engine.position = _STATE_SIZE

    @staticmethod
    def _check(engine: _Engine) -> None:
        if engine.position > _STATE_SIZE or any(word >> 32 for word in engine.words):
            raise SeedingUnavailableError("the random engine is no libstdc++ std::mt19937")
