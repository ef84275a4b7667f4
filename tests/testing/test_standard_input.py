"""The tests' standard input, which every program that they start inherits."""

import os

from tests.conftest import pytest_runtest_setup


def test_it_blocks_again_after_a_program_has_changed_that():
    reading, writing = os.pipe()
    kept = os.dup(0)
    try:
        os.dup2(reading, 0)
        os.set_blocking(0, False)
        pytest_runtest_setup()
        assert os.get_blocking(0)
    finally:
        os.dup2(kept, 0)
        for descriptor in (reading, writing, kept):
            os.close(descriptor)
