"""What the tests of bundles share."""

import pytest

from tests.assist.bundle import small as smalls


@pytest.fixture
def small(tmp_path):
    made = smalls.make(tmp_path)
    made.build()
    return made
