"""Three hosts under constant load: updates that go through, and that stop at each position, without a failed request.

The tests build on one another, in their order: the first has made the version that the others fail at.
"""

import pytest

from testing.lab.rolling import PATIENT, Site, constant_load, failed, served_models, versions

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1800)]

# In the order in which an update takes them: Tritons first, gateways last.
FIRST, MIDDLE, LAST = "gpu1", "gpu2", "gw1"
HOSTS = [FIRST, MIDDLE, LAST]
MODEL = "/var/lib/ai-assist/models/tiny-codegen/1.ctranslate2-float32/model.bin"
INT8, FLOAT32 = "1.ctranslate2-int8", "1.ctranslate2-float32"
QUICK = {"triton": {"startup_timeout_s": 5}}
# The new gateway alone does not start: its own file is what keeps it from it.
REFUSES = "/etc/systemd/system/ai-assist-gateway@.service.d"
SABOTAGE = f"""mkdir -p {REFUSES} && cat >{REFUSES}/no.conf <<'END' && systemctl daemon-reload
[Service]
ExecStartPre=/bin/sh -c '! grep -q MAX_TOKENS_CAP=99 /etc/ai-assist/gateway.env'
END"""


@pytest.fixture(scope="module")
def site(make_lab, tmp_path_factory) -> Site:
    folder = tmp_path_factory.mktemp("rolling")
    lab = make_lab("T", f"{LAST}:groups=gateway,queue", f"{FIRST}:groups=gpu", f"{MIDDLE}:groups=gpu")
    return Site.converged(lab, folder)


def test_an_update_and_a_rollback_of_every_host_fail_no_request(site):
    before = versions(site.lab, HOSTS)
    with constant_load(site.lab, LAST, site.folder) as answers:
        site.play("update.yml", precision="float32").succeed()
        assert served_models(site.lab, [FIRST, MIDDLE]) == {FLOAT32}
        site.play("rollback.yml", precision="float32").succeed()
    assert failed(answers) == []
    assert versions(site.lab, HOSTS) == before


@pytest.mark.parametrize("broken", [FIRST, MIDDLE])
def test_a_triton_that_does_not_come_up_stops_the_update_and_hosts_after_it_keep_what_they_serve(
    site, broken
):
    before = versions(site.lab, HOSTS)
    size = site.lab.run(broken, f"stat -c %s {MODEL}; cp {MODEL} /var/tmp/whole").strip()
    site.lab.run(broken, f"truncate --size 1000 {MODEL}")
    try:
        with constant_load(site.lab, LAST, site.folder) as answers:
            stopped = site.play("update.yml", precision="float32", hosts=QUICK)
    finally:
        site.lab.run(broken, f"cat /var/tmp/whole >{MODEL} && test $(stat -c %s {MODEL}) = {size}")
    assert stopped.code == 2, stopped.output[-4000:]
    assert "which serves the version from before" in " ".join(stopped.output.split())
    assert failed(answers) == []
    untouched = HOSTS[HOSTS.index(broken) :]
    after = versions(site.lab, HOSTS)
    assert {name for name in HOSTS if after[name] == before[name]} == set(untouched)
    # What was updated before it is returned by a rollback, and nothing else is touched.
    if broken != FIRST:
        site.play("rollback.yml", precision="float32", hosts=QUICK).succeed()
    assert versions(site.lab, HOSTS) == before


def test_a_gateway_that_does_not_come_up_is_put_back_without_a_failed_request(site):
    before = versions(site.lab, HOSTS)
    site.lab.run(LAST, SABOTAGE)
    try:
        with constant_load(site.lab, LAST, site.folder) as answers:
            stopped = site.play("update.yml", limits=PATIENT | {"max_tokens": 99})
    finally:
        site.lab.run(LAST, f"rm -r {REFUSES} && systemctl daemon-reload")
    assert stopped.code == 2, stopped.output[-4000:]
    assert f"The gateways of the new version did not start on {LAST}" in " ".join(stopped.output.split())
    assert failed(answers) == []
    assert versions(site.lab, HOSTS) == before
