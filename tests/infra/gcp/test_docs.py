"""The stack files that the documentation shows are ones that the program takes."""

import re

import pytest
import yaml

from stackfile import load_stack
from stackfile.catalogue import ROOT

SHOWN = {"shared-cluster.md": "lab", "gke.md": "gke-dev"}


@pytest.mark.parametrize("page", SHOWN)
def test_a_stack_file_that_the_documentation_shows_can_be_read(page, tmp_path):
    name = SHOWN[page]
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)
    shown = [block for block in blocks if re.search(r"^(gke|target): ", block, re.MULTILINE)]
    assert shown
    for block in shown:
        file = ROOT / f"stacks/{name}.yaml"
        whole = yaml.safe_load(file.read_text()) if file.exists() else {}
        text = block.replace("YOUR-NAMESPACE", "mine").replace("CLASS", "shared")
        document = whole | yaml.safe_load(text)
        written = tmp_path / f"{name}.yaml"
        written.write_text(yaml.safe_dump(document))
        service = load_stack(written)
        assert service.name == name
        assert service.kubernetes is not None
