"""One host that is everything, changed under load: no request fails, and what does not work is put back."""

import pytest

from testing.lab.rolling import PATIENT, Site, constant_load, failed, served_models, versions

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1500)]

HOST = "one"
MODELS = "/var/lib/ai-assist/models/tiny-codegen"
# A disk of its own for the configuration, with not a byte left: the preflight does not look there.
FILL = """mkdir /var/tmp/kept && cp -a /etc/ai-assist/. /var/tmp/kept/
mount -t tmpfs -o size=200k,mode=755 tmpfs /etc/ai-assist && cp -a /var/tmp/kept/. /etc/ai-assist/
! dd if=/dev/zero of=/etc/ai-assist/filler bs=512 2>/dev/null"""
INT8, FLOAT32 = "1.ctranslate2-int8", "1.ctranslate2-float32"


@pytest.fixture(scope="module")
def site(make_lab, tmp_path_factory) -> Site:
    folder = tmp_path_factory.mktemp("rolling")
    lab = make_lab("R", f"{HOST}:groups=gateway,gpu,queue")
    return Site.converged(lab, folder)


def test_an_update_and_a_rollback_fail_no_request_and_the_rollback_is_byte_identical(site):
    before = versions(site.lab, [HOST])
    with constant_load(site.lab, HOST, site.folder) as answers:
        predicted = site.play("update.yml", "--check", precision="float32").succeed()
        assert versions(site.lab, [HOST]) == before
        updated = site.play("update.yml", precision="float32").succeed()
        assert served_models(site.lab, [HOST]) == {FLOAT32}
        assert versions(site.lab, [HOST]) != before
        expected = site.play("rollback.yml", "--check", precision="float32").succeed()
        returned = site.play("rollback.yml", precision="float32").succeed()
    for check, run in ((predicted, updated), (expected, returned)):
        assert check.changed == run.changed
        assert check.changes == run.changes
    assert {
        "Triton | Restart Triton and wait until the model is loaded",
        "Gateway | Restart the gateway",
    } <= {task.rpartition(" : ")[2] for task in updated.changed[HOST]}
    assert failed(answers) == []
    assert served_models(site.lab, [HOST]) == {INT8}
    assert versions(site.lab, [HOST]) == before


def test_a_broken_version_reverts_by_itself_without_a_failed_request(site):
    before = versions(site.lab, [HOST])
    site.lab.run(HOST, f"truncate --size 1000 {MODELS}/{FLOAT32}/model.bin")
    with constant_load(site.lab, HOST, site.folder) as answers:
        broken = site.play("update.yml", precision="float32", hosts={"triton": {"startup_timeout_s": 5}})
    assert broken.code == 2, broken.output[-4000:]
    assert "The new version did not start on one, which serves the version from before" in " ".join(
        broken.output.split()
    )
    assert failed(answers) == []
    assert versions(site.lab, [HOST]) == before


def test_a_host_that_is_not_reached_stops_an_update_before_anything_is_touched(site):
    before = versions(site.lab, [HOST])
    site.lab.run(HOST, "systemctl stop ssh.socket ssh.service; kill $(pidof sshd) || true", check=False)
    try:
        stopped = site.play("update.yml", precision="float32")
    finally:
        site.lab.run(HOST, "systemctl start ssh.service")
    assert stopped.code != 0
    assert stopped.changes == 0
    assert versions(site.lab, [HOST]) == before


def test_a_disk_that_is_full_in_the_midst_of_an_update_leaves_what_serves(site):
    before = versions(site.lab, [HOST])
    site.lab.run(HOST, FILL)
    try:
        with constant_load(site.lab, HOST, site.folder) as answers:
            full = site.play("update.yml", limits=PATIENT | {"max_tokens": 99})
    finally:
        site.lab.run(HOST, "umount --lazy /etc/ai-assist")
    assert full.code == 2, full.output[-4000:]
    assert "/etc/ai-assist/gateway.env: No space left on device" in " ".join(full.output.split())
    assert f"The gateways of the new version did not start on {HOST}" in " ".join(full.output.split())
    assert failed(answers) == []
    assert versions(site.lab, [HOST]) == before
