"""The lab keeps what it says: hosts that are hosts, a network without a way out, and not a trace afterwards.

The tests build on one another, in their order.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testing.lab import machines
from testing.lab.driver import ROOT, Lab
from testing.until import until

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(900)]

# What a machine may keep from its hosts: limits above its own (without CAP_SYS_RESOURCE), and memory and processes
# where their controllers belong to the first version of cgroups.
MACHINES_OWN = {
    "LimitNOFILE=65536",
    "LimitMEMLOCK=infinity",
    "OOMScoreAdjust=-500",
    "TasksMax=5 enforced",
    "MemoryMax=20M enforced",
}


@pytest.fixture(scope="module")
def lab(make_lab) -> Lab:
    return make_lab("W", "gw1:groups=gateway", "gpu1:groups=gpu:gpus=2")


def states(lab: Lab) -> dict[str, str]:
    return {row["name"]: row["state"] for row in json.loads(lab.lab("list", "--json"))}


def ssh(lab: Lab, host: str, *command: str, user: str = "root") -> str:
    argv = ["ssh", "-F", str(lab.ssh_config), "-l", user, host, *command]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=300).stdout


def traces(lab: Lab) -> list[str]:
    """Return everything that this lab has left on this machine."""
    found = [str(path) for path in Path("/run/netns").glob(f"{lab.files.switch}*")]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{lab.folder}/" in line]
    branch = machines.cgroup_of(lab.files)
    found += [str(path) for path in (lab.folder, lab.files.lock, branch) if path.exists()]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{lab.folder}/" in command or f"--name {lab.name} " in command:
            found.append(f"{folder.name}: {command}")
    return found


def test_hosts_run_and_know_one_another(lab):
    assert states(lab) == {"gw1": "running", "gpu1": "running"}
    assert lab.run("gpu1", "getent hosts gw1").split() == [lab.address("gw1"), "gw1"]
    lab.run("gpu1", "ping -c 1 -W 30 gw1")


def test_who_has_the_labs_key_logs_in_as_root_and_as_a_user_with_sudo(lab):
    assert ssh(lab, "gpu1", "hostname") == "gpu1\n"
    assert ssh(lab, "gpu1", "sudo -n id -u", user="deploy") == "0\n"
    copy = ["scp", "-q", "-F", str(lab.ssh_config), str(ROOT / "README.md"), "gw1:/root/copied"]
    subprocess.run(copy, check=True, timeout=300)
    assert lab.run("gw1", "cat /root/copied") == (ROOT / "README.md").read_text()


def test_there_is_no_way_between_this_machine_and_the_lab_and_none_out_of_it(lab):
    for family in ("addr", "route"):
        assert "10.77.0" not in subprocess.check_output(["ip", "-4", family], text=True)
    assert lab.network("ip", "-4", "route").stdout.split()[:3] == ["10.77.0.0/24", "dev", "br0"]
    assert "default" not in lab.network("ip", "route").stdout
    assert lab.try_run("gw1", "timeout 5 bash -c '</dev/tcp/192.0.2.1/80'").returncode != 0


def test_gpus_are_where_a_role_looks_for_them(lab):
    assert lab.run("gpu1", "nvidia-smi -L").count("H100") == 2
    asked = "nvidia-smi --query-gpu=index,memory.total --format=csv,noheader,nounits"
    assert lab.run("gpu1", asked) == "0, 81559\n1, 81559\n"
    assert lab.run("gpu1", "cat /sys/bus/pci/devices/*/vendor") == "0x10de\n" * 2
    assert "535.261.03" in lab.run("gpu1", "cat /proc/driver/nvidia/version")
    assert lab.try_run("gw1", "nvidia-smi").returncode == 127


def test_kernel_settings_are_read_back_and_stay_the_machines(lab):
    before = Path("/proc/sys/vm/overcommit_memory").read_text()
    lab.run("gw1", "sysctl -w vm.overcommit_memory=1 fs.inotify.max_user_watches=4711")
    assert lab.run("gw1", "sysctl -n vm.overcommit_memory") == "1\n"
    assert Path("/proc/sys/vm/overcommit_memory").read_text() == before


def test_what_units_promise_of_their_isolation_has_an_effect_in_a_host(lab):
    program = (ROOT / "testing/lab/guest/hardening.sh").read_text()
    lab.run("gw1", f"cat >/root/hardening.sh <<'PROGRAM'\n{program}\nPROGRAM")
    printed = lab.run("gw1", "bash /root/hardening.sh", timeout=600)
    assert len(re.findall("^OK ", printed, re.MULTILINE)) >= 63
    without = set(re.findall(r"^NO +(.*?) \(rc=", printed, re.MULTILINE))
    assert without <= MACHINES_OWN, printed


def test_packages_come_by_the_labs_proxy_which_refuses_the_rest(lab):
    lab.run("gw1", "apt-get -qq update", timeout=600)
    assert "InRelease" in (lab.folder / "proxy.log").read_text()
    ask = "import urllib.request as r; r.install_opener(r.build_opener(r.ProxyHandler({'http': 'http://10.77.0.1:3142'})))"
    refused = lab.try_run("gw1", f'''python3 -c "{ask}; r.urlopen('http://elsewhere.example/')"''')
    assert "403" in refused.stderr
    assert "REFUSED GET http://elsewhere.example/" in (lab.folder / "proxy.log").read_text()


def test_up_again_adds_what_is_new_and_leaves_what_runs(lab):
    boot = lab.boot_id("gw1")
    lab.up("gw1", "web1")
    assert lab.boot_id("gw1") == boot
    assert lab.run("gw1", "getent hosts web1").split()[1] == "web1"
    assert len(states(lab)) == 3


def test_a_host_forgets_when_it_is_reset_and_not_when_it_reboots(lab):
    lab.run("gpu1", "touch /root/kept")
    boot = lab.boot_id("gpu1")
    lab.try_run("gpu1", "systemctl reboot")
    lab.until_up("gpu1", boot)
    lab.run("gpu1", "test -e /root/kept")
    lab.lab("reset", "gpu1")
    assert ssh(lab, "gpu1", "ls", "/root") == ""


def test_a_host_that_was_switched_off_boots_as_it_was(lab):
    lab.run("gpu1", "touch /root/kept")
    lab.try_run("gpu1", "systemctl poweroff")
    until(lambda: states(lab)["gpu1"] == "stopped")
    lab.up("gpu1")
    lab.run("gpu1", "test -e /root/kept")


def test_a_kept_layer_is_where_other_hosts_start(lab):
    layer = f"test-{lab.name}"
    try:
        lab.run("web1", "echo hi >/srv/made && useradd appu")
        lab.lab("save", "web1", layer)
        lab.up("web1", f"web2:layer={layer}")
        for host in ("web1", "web2"):
            assert lab.run(host, "cat /srv/made && id -nu appu && hostname") == f"hi\nappu\n{host}\n"
    finally:
        lab.lab("destroy")
        subprocess.run(["rm", "-rf", str(lab.files.settings.layer(layer))], check=True)
    assert traces(lab) == []


def test_two_labs_at_the_same_addresses_do_not_meet(make_lab):
    one, other = (make_lab(suffix, "api1") for suffix in "UV")
    one.run("api1", "touch /root/one")
    assert one.address("api1") == other.address("api1")
    assert other.try_run("api1", "test -e /root/one").returncode == 1
    one.destroy()
    assert traces(one) == []
    assert states(other) == {"api1": "running"}


@pytest.mark.parametrize(
    "written", ["lock", "lab.json", "proxy.ready", "hosts/k1/upper", "hosts/k1/nspawn.log"]
)
def test_nothing_is_left_of_a_lab_whose_making_was_killed(make_lab, written):
    lab = make_lab("X")
    awaited = lab.files.lock if written == "lock" else lab.folder / written
    command = [sys.executable, "-m", "testing.lab", "--name", lab.name, "up", "k1", "k2"]
    process = subprocess.Popen(command, cwd=ROOT, env=lab.environment, stderr=subprocess.DEVNULL)
    until(awaited.exists, pause_s=0.005)
    process.kill()
    process.wait()
    lab.destroy()
    until(lambda: not traces(lab))


@pytest.mark.parametrize("killed", ["proxy", "supervisor", "nspawn"])
def test_up_mends_a_lab_of_which_something_was_killed(make_lab, killed):
    lab = make_lab("Y", "k1", "k2")
    record = lab.files.load()
    supervisor = record.hosts["k1"].process
    assert record.proxy
    assert supervisor
    child = int(Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()[0])
    pid = {"proxy": record.proxy.pid, "supervisor": supervisor.pid, "nspawn": child}[killed]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not (record.proxy if killed == "proxy" else supervisor).is_alive)
    if killed != "proxy":
        assert states(lab)["k1"] == "stopped"
    lab.up("k1", "k2")
    assert states(lab) == {"k1": "running", "k2": "running"}
    assert ssh(lab, "k1", "hostname") == "k1\n"
    lab.destroy()
    until(lambda: not traces(lab))


def test_a_lab_that_is_not_there_is_destroyed_twice_without_complaint(make_lab):
    lab = make_lab("Q")
    lab.lab("destroy")
    lab.lab("destroy")
    assert traces(lab) == []
