"""The program that Pulumi's engine starts: its port, its protocol, its end."""

import os
import subprocess
import sys

import grpc
import psutil
import pytest

from testing.gcp import sdk
from testing.gcp.double import BIN, PLUGIN, on_path
from testing.gcp.protocol import provider_pb2, provider_pb2_grpc
from testing.gcp.values import UNKNOWN, Secret, decode, encode
from testing.until import until
from tests.testing.gcp.world import VALID, changed, kind

NETWORK, VERSION = kind("Network"), kind("SecretVersion")
# Starts a provider as the engine does, and ends only by a signal: when it has the port, or before.
STARTER = """
import subprocess, sys
provider = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE)
if sys.argv[1] == "serving":
    provider.stdout.readline()
print(provider.pid, flush=True)
input()
"""


@pytest.fixture
def environment(tmp_path):
    return dict(os.environ) | on_path(os.environ, tmp_path / "google")


@pytest.fixture
def stub(environment):
    """Start the program as the engine does, configure it, and return what calls it."""
    command = [BIN / PLUGIN, "127.0.0.1:1"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            made = provider_pb2_grpc.ResourceProviderStub(channel)
            made.Configure(configuration())
            for token in (kind("Service"), NETWORK):
                made.Create(creation(token, VALID[token]))
            yield made
        process.terminate()


def configuration(**args):
    given = {"project": "demo-project", "region": "us-central1", "defaultLabels": '{"app": "x"}'} | args
    return provider_pb2.ConfigureRequest(args=encode(given))


def creation(token, inputs, **more):
    return provider_pb2.CreateRequest(type=token, name="it", properties=encode(inputs), **more)


def check(token, inputs):
    return provider_pb2.CheckRequest(type=token, name="it", news=encode(inputs))


def test_it_is_the_version_of_the_installed_sdk(stub):
    assert stub.GetPluginInfo(empty()).version == sdk.version()


def empty():
    from google.protobuf import empty_pb2

    return empty_pb2.Empty()


def test_it_starts_without_the_rest_of_pulumis_sdk(environment):
    """Importing all of it takes longer than the engine should wait for a provider."""
    asked = "import sys, testing.gcp.server; print('pulumi' in sys.modules, 'pulumi_gcp' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_without_a_cloud_it_says_what_to_set(environment):
    del environment["ASSIST_GCP_CLOUD"]
    done = subprocess.run([BIN / PLUGIN], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ASSIST_GCP_CLOUD is not set" in done.stderr


@pytest.mark.parametrize("when", ["serving", "starting"])
def test_it_ends_with_the_process_that_started_it(environment, when):
    command = [sys.executable, "-c", STARTER, when, str(BIN / PLUGIN)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as engine:
        provider = psutil.Process(int(engine.stdout.readline()))
        assert provider.is_running()
        engine.kill()
    until(lambda: not provider.is_running() or provider.status() == psutil.STATUS_ZOMBIE)


def test_a_secret_comes_back_as_a_secret_and_reaches_google_in_plain(stub):
    checked = decode(
        stub.Check(
            check(kind("Account"), {"accountId": "node-account", "displayName": Secret("hush")})
        ).inputs
    )
    assert checked["displayName"] == Secret("hush")
    made = decode(stub.Create(creation(kind("Account"), checked)).properties)
    assert made["displayName"] == Secret("hush")
    assert made["email"] == "node-account@demo-project.iam.gserviceaccount.com"


def test_what_google_keeps_secret_is_a_secret_in_the_outputs(stub):
    sub, cluster = kind("Subnetwork"), kind("Cluster")
    stub.Create(creation(sub, VALID[sub]))
    made = decode(stub.Create(creation(cluster, VALID[cluster])).properties)
    assert isinstance(made["masterAuth"]["clientKey"], Secret)
    assert isinstance(made["masterAuth"]["clusterCaCertificate"], str)


def test_a_preview_of_a_creation_has_unknown_outputs_and_makes_nothing(stub):
    sub = kind("Subnetwork")
    planned = stub.Create(creation(sub, changed("Subnetwork", network=UNKNOWN), preview=True))
    outputs = decode(planned.properties)
    assert planned.id == ""
    assert outputs["network"] is outputs["selfLink"] is UNKNOWN
    assert outputs["name"] == "sub"
    made = decode(stub.Create(creation(sub, VALID[sub])).properties)
    assert made["selfLink"].endswith("/regions/us-central1/subnetworks/sub")


def test_a_wrong_input_is_reported_by_its_property(stub):
    (failure,) = stub.Check(check(NETWORK, {"name": "net", "mtuu": 1500})).failures
    assert failure.property == "mtuu"
    assert "did you mean mtu?" in failure.reason


def test_a_change_is_reported_by_its_path_and_kind(stub):
    state = stub.Create(creation(kind("Account"), VALID[kind("Account")])).properties
    request = provider_pb2.DiffRequest(
        type=kind("Account"),
        olds=state,
        news=encode({"accountId": "other-account", "displayName": "x"}),
        old_inputs=encode(VALID[kind("Account")]),
    )
    found = stub.Diff(request)
    kinds = {path: one.kind for path, one in found.detailedDiff.items()}
    assert kinds == {
        "accountId": provider_pb2.PropertyDiff.UPDATE_REPLACE,
        "displayName": provider_pb2.PropertyDiff.ADD,
    }
    assert list(found.replaces) == ["accountId"]


def test_a_resource_that_is_gone_is_read_as_nothing(stub):
    read = stub.Read(provider_pb2.ReadRequest(type=NETWORK, id="projects/demo-project/global/networks/other"))
    assert read.id == ""


def test_googles_refusal_is_the_error_of_the_call(stub):
    with pytest.raises(grpc.RpcError) as refused:
        stub.Create(creation(NETWORK, VALID[NETWORK]))
    assert "Error 409" in refused.value.details()


@pytest.mark.parametrize(
    ("method", "request_", "said"),
    [
        ("Check", lambda: check("gcp:sql/user:User", {}), "does not know gcp:sql/user:User"),
        (
            "Invoke",
            lambda: provider_pb2.InvokeRequest(tok="gcp:dns/getKeys:getKeys"),
            "lookup gcp:dns/getKeys",
        ),
        ("Configure", lambda: configuration(project=""), "pulumi config set gcp:project"),
    ],
)
def test_what_the_double_cannot_do_it_says(stub, method, request_, said):
    with pytest.raises(grpc.RpcError) as refused:
        getattr(stub, method)(request_())
    assert said in refused.value.details()


def test_an_unknown_setting_of_the_provider_is_refused(stub):
    request = provider_pb2.CheckRequest(news=encode({"project": "p", "regoin": "r", "version": "10.2.0"}))
    assert [one.property for one in stub.CheckConfig(request).failures] == ["regoin"]


def test_without_credentials_it_says_how_to_get_some(environment):
    del environment["GOOGLE_OAUTH_ACCESS_TOKEN"]
    with subprocess.Popen([BIN / PLUGIN], env=environment, stdout=subprocess.PIPE, text=True) as process:
        channel = grpc.insecure_channel(f"127.0.0.1:{process.stdout.readline().strip()}")
        with channel, pytest.raises(grpc.RpcError) as refused:
            provider_pb2_grpc.ResourceProviderStub(channel).Configure(configuration())
        process.terminate()
    assert "gcloud auth application-default login" in refused.value.details()
