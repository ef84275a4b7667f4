"""Constraints: what llguidance accepts, in the version that serves, and what is refused."""

import pytest

from gateway.errors import ApiError
from gateway.text import constraint, llama_grammar
from testing import needs


@pytest.fixture(autouse=True)
def library():
    needs.package("xllamacpp")


def test_a_grammar_is_compiled_and_its_fault_named():
    assert llama_grammar.fault("%llguidance {}\nstart: %json {}\n") is None
    assert "Expected token" in llama_grammar.fault("%llguidance {}\nstart: (((\n")
    pattern = llama_grammar.fault('%llguidance {}\nstart: %json {"type": "string", "pattern": "(("}\n')
    assert pattern.endswith("regex parse error: unclosed group")


async def test_what_cannot_be_enforced_is_left_out_unless_strict():
    unique = {"type": "array", "uniqueItems": True}
    await constraint.verify(constraint.answer(unique, strict=False))
    with pytest.raises(ApiError, match="uniqueItems"):
        await constraint.verify(constraint.answer(unique, strict=True))
