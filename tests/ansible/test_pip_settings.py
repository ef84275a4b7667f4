"""A mirror or a private CA that was set once for pip counts for uv, too."""

import importlib.util

import pytest

from assist.paths import SOURCE

_spec = importlib.util.spec_from_file_location(
    "pip_settings", SOURCE / "ansible/plugins/module_utils/pip_settings.py"
)
assert _spec
assert _spec.loader
pip_settings = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pip_settings)


@pytest.fixture
def home(tmp_path):
    return {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}


def test_without_settings_uv_keeps_its_own_and_trusts_the_system(home):
    assert pip_settings.uv_environment(home) == {"UV_SYSTEM_CERTS": "true"}


def test_a_mirror_in_pip_conf_is_uvs_default_index(home, tmp_path):
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text("[global]\nindex-url = https://mirror.example/simple\n")
    environment = pip_settings.uv_environment({"HOME": str(tmp_path)})
    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"


def test_the_environment_wins_over_the_file_and_uvs_own_word_over_both(home):
    asked = {**home, "PIP_INDEX_URL": "https://env.example/simple"}
    assert pip_settings.uv_environment(asked)["UV_DEFAULT_INDEX"] == "https://env.example/simple"
    assert "UV_DEFAULT_INDEX" not in pip_settings.uv_environment(
        {**asked, "UV_DEFAULT_INDEX": "https://uv.example"}
    )


def test_a_private_ca_is_passed_on_and_a_folder_that_is_not_there_left_out(home, tmp_path):
    asked = {**home, "PIP_CERT": "/etc/ca.pem", "PIP_FIND_LINKS": f"/nonexistent {tmp_path}"}
    environment = pip_settings.uv_environment(asked)
    assert environment["SSL_CERT_FILE"] == "/etc/ca.pem"
    assert environment["UV_FIND_LINKS"] == str(tmp_path)
