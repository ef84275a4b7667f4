"""A host that is cut off: from a bundle to a completion through NGINX, and proof that it asked nobody."""

import json

import pytest

from assist.bundle import build, contents, install, signatures, signing_keys
from assist.bundle.errors import BundleError
from assist.bundle.paths import BundlePaths
from assist.deployment import resolve
from assist.paths import SOURCE, Paths
from model_loader.progress import Silent
from testing import needs
from testing.lab import driver

pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.triton,
    pytest.mark.timeout(1500),
]

# On the lab's bridge: what a host begins itself, whoever it is for. Answers and ARP are no beginnings.
COUNTERS = """
table bridge cut_off {
  counter names { }
  counter connections { }
  chain from_hosts {
    type filter hook prerouting priority 0; policy accept;
    iifname "br0" accept
    ip saddr 10.77.0.1 accept
    meta l4proto udp counter name names
    tcp flags & (syn | ack) == syn counter name connections
  }
}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Build the bundle of stack hosts and put it in place, beside the clone and not in it."""
    folder = tmp_path_factory.mktemp("bundle")
    public = signing_keys.generate(folder / "a.key")
    deployment = resolve("hosts", Paths())
    builder = build.Builder(deployment, contents.of(deployment), lambda _: None, Silent())
    archive = folder / "hosts.bundle"
    try:
        builder.build(
            archive, signing_keys.load(folder / "a.key"), lambda _: lambda _: None, allow_missing=False
        )
    except BundleError as error:
        needs.skip(f"no bundle can be built here: {error}", needs.ONLINE)
    where = BundlePaths(SOURCE, folder / "home")
    install.install(archive, signatures.read_public(signing_keys.public_name(folder / "a.key")), where)
    assert public
    return where.link


@pytest.fixture(scope="module")
def lab(bundle):
    if reason := driver.missing():
        pytest.skip(f"no hosts can be booted: {reason}")
    driver.sweep()
    lab = driver.Lab("B", offline=True)
    try:
        lab.up("one:groups=gateway,gpu,queue")
        rules = lab.folder / "cut-off.nft"
        rules.write_text(COUNTERS)
        counted = lab.network("nft", "-f", str(rules))
        if counted.returncode:
            needs.skip(f"nftables can't count on a bridge here: {counted.stderr.strip()}", needs.PRIVILEGED)
        yield lab
    finally:
        lab.destroy()


def left(lab) -> dict[str, int]:
    listed = lab.network("nft", "--json", "list", "counters").stdout
    rows = [item["counter"] for item in json.loads(listed)["nftables"] if "counter" in item]
    return {row["name"]: row["packets"] for row in rows}


def test_a_host_that_is_cut_off_converges_from_the_bundle_and_asks_nobody(lab, bundle):
    played = lab.play("site.yml", variables={"service_stack": "hosts", "service_bundle": str(bundle)})
    played.succeed()
    assert "Verify | Assert that the completion succeeded" in played.output
    assert left(lab) == {"names": 0, "connections": 0}
    asked = [
        line
        for line in (lab.folder / "proxy.log").read_text().splitlines()
        if "GET" in line or "CONNECT" in line
    ]
    assert not asked


def test_what_a_host_begins_is_counted(lab):
    lab.run(
        "one",
        "exec 3<>/dev/udp/192.0.2.53/53 && echo x >&3; timeout 2 bash -c 'exec 3<>/dev/tcp/10.77.0.1/3142'; true",
    )
    assert left(lab)["connections"] >= 1
    assert left(lab)["names"] >= 1
