"""What cannot work is refused before anything on a host is touched, with the remedy."""

import json

import pytest
import yaml

from stackfile.catalogue import ROOT
from testing.lab.driver import Lab

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def lab(make_lab) -> Lab:
    return make_lab("B", "one:groups=gateway,gpu,queue")


@pytest.fixture
def refused(lab):
    """Run the playbook, expect a refusal, see that the host is untouched, and return what was said."""

    def play(*options: str, **variables: object) -> str:
        played = lab.play("site.yml", *options, variables=variables)
        assert played.code != 0
        assert played.changes == 0, played.changed
        assert lab.run("one", "ls -d /opt/ai-assist /etc/ai-assist /var/lib/ai-assist", check=False) == ""
        return " ".join(played.output.split())

    return play


def stack(tmp_path, **hosts: object) -> str:
    document = yaml.safe_load((ROOT / "stacks/hosts.yaml").read_text())
    document["hosts"] |= hosts
    file = tmp_path / "hosts.yaml"
    file.write_text(yaml.safe_dump(document))
    return str(file)


def test_a_stack_with_a_mistake_is_named_with_its_line(refused, tmp_path):
    said = refused(service_stack=stack(tmp_path, front={"https_prot": 443}))
    assert "hosts.front.https_prot" in said
    assert "did you mean 'https_port'?" in said


def test_a_disk_and_a_memory_that_are_too_small_are_both_named(refused, tmp_path):
    said = refused(service_stack=stack(tmp_path, requirements={"disk_gib": 99999.0, "memory_gib": 9999.0}))
    assert "GiB free for /opt/ai-assist, but 99999.0 are required" in said
    assert "lower hosts.requirements.memory_gib" in said


def test_a_port_that_another_program_holds_is_named_with_the_program(refused, lab):
    lab.run("one", "systemd-run --quiet --unit=squatter /usr/bin/python3 -m http.server 443")
    try:
        lab.run("one", "until ss -Hltn 'sport = :443' | grep -q .; do sleep 0.1; done")
        assert "port 443 (NGINX) is in use by python3 (squatter.service)" in refused()
    finally:
        lab.run("one", "systemctl stop squatter")


def test_a_host_that_cannot_be_reached_keeps_every_other_from_being_touched(refused, lab, tmp_path):
    common = lab.folder / "inventory.yml"
    variables = json.loads(common.read_text())["all"]["vars"]
    gone = {"all": {"children": {"gpu": {"hosts": {"gone": variables | {"ansible_host": "10.77.0.250"}}}}}}
    file = tmp_path / "gone.yml"
    file.write_text(yaml.safe_dump(gone))
    said = refused("-i", str(file))
    assert "gone is unreachable. Nothing was changed." in said


def test_a_user_who_may_not_become_root_is_told_so_before_anything_happens(refused, lab):
    lab.run("one", "useradd --create-home guest && install -d -m 700 -o guest /home/guest/.ssh"
            " && install -m 600 -o guest /root/.ssh/authorized_keys /home/guest/.ssh/authorized_keys")  # fmt: skip
    try:
        assert "password" in refused(ansible_user="guest").lower()
    finally:
        lab.run("one", "userdel --remove guest", check=False)
