"""Hosts for the tests of target ``hosts``; every test here is skipped where none can be booted."""

from collections.abc import Callable, Iterator

import pytest

from testing.lab import driver
from testing.lab.driver import Lab

MakeLab = Callable[..., Lab]


@pytest.fixture(scope="session")
def lab_tools() -> None:
    """Skip where no lab can be made; destroy what killed runs left."""
    if reason := driver.missing():
        pytest.skip(f"no hosts can be booted: {reason}")
    driver.sweep()


@pytest.fixture(scope="module")
def make_lab(lab_tools: None) -> Iterator[MakeLab]:
    """Return a function that makes labs, ``make_lab("A", suite="trixie")``, destroyed at the module's end.

    The suffix is one capital letter, another one for each lab of a module and for each module.
    """
    made: list[Lab] = []

    def make(suffix: str, *hosts: str, **options: object) -> Lab:
        lab = Lab(suffix, **options)  # type: ignore[arg-type]
        made.append(lab)
        if hosts:
            lab.up(*hosts)
        return lab

    yield make
    for lab in made:
        lab.destroy()
