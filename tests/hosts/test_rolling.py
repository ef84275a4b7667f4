"""One host that is everything, and its only Triton is replaced there and back under load: no request fails."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.lab import Lab, Played
from tests.hosts.rolling import constant_load, failed, served_models, stack_file, versions

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1500)]

HOST = "one"
INT8, FLOAT32 = "1.ctranslate2-int8", "1.ctranslate2-float32"


@dataclass
class Site:
    """The host, and the release that it stays on whatever happens to this checkout meanwhile."""

    lab: Lab
    release: str
    folder: Path

    def play(self, playbook: str, **settings: object) -> Played:
        """Run a playbook for a stack with these settings."""
        variables = {"service_stack": stack_file(self.folder, **settings), "service_release": self.release}
        return self.lab.play(playbook, variables=variables, timeout=1200)


@pytest.fixture(scope="module")
def site(make_lab, tmp_path_factory) -> Site:
    folder = tmp_path_factory.mktemp("rolling")
    lab = make_lab("R", f"{HOST}:groups=gateway,gpu,queue")
    lab.play("site.yml", variables={"service_stack": stack_file(folder)}, timeout=1200).succeed()
    (archive,) = (lab.home / "releases").glob("*.tar.gz")
    return Site(lab, archive.name.removesuffix(".tar.gz"), folder)


def test_an_update_and_a_rollback_fail_no_request_and_the_rollback_is_byte_identical(site):
    before = versions(site.lab, [HOST])
    with constant_load(site.lab, HOST, site.folder) as answers:
        site.play("update.yml", precision="float32").succeed()
        assert served_models(site.lab, [HOST]) == {FLOAT32}
        assert versions(site.lab, [HOST]) != before
        site.play("rollback.yml", precision="float32").succeed()
    assert failed(answers) == []
    assert served_models(site.lab, [HOST]) == {INT8}
    assert versions(site.lab, [HOST]) == before
