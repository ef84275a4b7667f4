"""The index that pip and uv are configured for is the one that is asked."""

from pathlib import Path

import pytest

from model_loader.errors import SourceError
from model_loader.sources.index_settings import DEFAULT_INDEX, credentials, index_settings


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "https://conf/simple"),
        ({"PIP_INDEX_URL": "https://pip/simple"}, "https://pip/simple"),
        ({"PIP_INDEX_URL": "https://pip/simple", "UV_INDEX_URL": "https://uv/simple"}, "https://uv/simple"),
        ({"UV_INDEX_URL": "https://old/simple", "UV_DEFAULT_INDEX": "https://new/s"}, "https://new/s"),
        ({"UV_DEFAULT_INDEX": "own=https://named/simple"}, "https://named/simple"),
    ],
)
def test_uv_goes_before_pip_and_variables_before_files(home, variables, expected):
    Path(home["PIP_CONFIG_FILE"]).write_text("[global]\nindex-url = https://conf/simple\n")
    assert index_settings(home | variables).addresses[0] == expected


def test_further_indexes_and_the_authority_are_taken_too(home):
    Path(home["PIP_CONFIG_FILE"]).write_text(
        "[global]\nextra-index-url = https://b/s\n  https://c/s\ncert = /ca\n"
    )
    settings = index_settings(home | {"UV_INDEX": "a=https://a/s?x=1"})
    assert settings.addresses[-3:] == ("https://a/s?x=1", "https://b/s", "https://c/s")
    assert settings.ca == Path("/ca")


def test_uv_toml_names_the_default_and_others(home, tmp_path):
    file = tmp_path / "uv.toml"
    file.write_text('[[index]]\nurl = "https://o/s"\n[[index]]\nurl = "https://d/s"\ndefault = true\n')
    assert index_settings(home | {"UV_CONFIG_FILE": str(file)}).addresses == ("https://d/s", "https://o/s")


def test_a_user_with_no_settings_has_the_public_index(tmp_path):
    assert index_settings({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}).addresses == (
        DEFAULT_INDEX,
    )


@pytest.mark.parametrize("name", ["PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"])
def test_where_indexes_are_switched_off_none_is_asked(home, name):
    with pytest.raises(SourceError, match=name):
        index_settings(home | {name: "1"})
    assert index_settings(home | {name: "0"}).addresses


def test_credentials_come_from_the_address_else_from_netrc(tmp_path):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine index.example login anna password geheim\n")
    netrc.chmod(0o600)
    home = {"HOME": str(tmp_path)}
    assert credentials("https://u:p%40@index.example/s", home) == ("https://index.example/s", "u:p@")
    assert credentials("https://index.example/s", home) == ("https://index.example/s", "anna:geheim")
    assert credentials("https://other.example/s", home) == ("https://other.example/s", None)
