"""Seeds CTranslate2's random numbers for each request.

CTranslate2 draws from one ``std::mt19937`` per worker thread, seeded once from the system; its public
``set_random_seed`` affects only threads that have not drawn yet. The library exports
``ctranslate2::get_random_generator()``, which returns the engine of the calling thread. Called from a
generation callback, which CTranslate2 runs in the worker thread, it returns the engine of the batch's next
draws. On a GPU the draws use cuRAND states on the device, which no exported function can set.
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
    """CTranslate2's random numbers cannot be seeded; the message names the cause."""


class ThreadSeeder:
    """Sets the random engine of the calling thread."""

    def __init__(self) -> None:
        """Find the engine and check its layout. Raises ``SeedingUnavailableError``."""
        libraries = sorted(
            (Path(ctranslate2.__file__).parent.parent / "ctranslate2.libs").glob("libctranslate2*")
        )
        if not libraries:
            raise SeedingUnavailableError("libctranslate2 is missing beside the Python package")
        try:
            self._engine_of_thread = getattr(ctypes.CDLL(str(libraries[0])), _SYMBOL)
        except (OSError, AttributeError) as error:
            raise SeedingUnavailableError(f"{libraries[0].name} does not export its random engine") from error
        self._engine_of_thread.restype = ctypes.POINTER(_Engine)
        self._check(self._engine_of_thread().contents)

    def seed(self, seeds: Sequence[int]) -> None:
        """Set the engine of the calling thread to a state that depends only on ``seeds``."""
        state = np.random.RandomState([seed & 0xFFFFFFFF for seed in seeds]).get_state(legacy=False)
        engine = self._engine_of_thread().contents
        engine.words[:] = [int(word) for word in state["state"]["key"]]
        engine.position = _STATE_SIZE

    @staticmethod
    def _check(engine: _Engine) -> None:
        if engine.position > _STATE_SIZE or any(word >> 32 for word in engine.words):
            raise SeedingUnavailableError("the random engine is not a libstdc++ std::mt19937")
