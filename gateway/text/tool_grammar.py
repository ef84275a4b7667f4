"""From functions and a model's syntax to the grammar that holds an answer to calls of them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.engine.base import Constraint
from gateway.text import parameter_types
from gateway.text.constraint import Schema, bounded, grammar_of, json_text, refused
from gateway.text.tool_syntax import ToolSyntax

# The check's vocabulary has bytes only, of which the first stands for a control token.
_FIRST_TOKEN = 0
# What stands between two calls.
_GAP = r"/\s{0,4}/"
# What a text that is written without quotes cannot be held to.
_UNENFORCED = ("pattern", "minLength", "maxLength", "format")
# A parameter's name stands in a tag.
_WRITABLE = re.compile(r"[^<>\n]{1,256}")
_BREAK = r'"\n"'
Rules = dict[str, str]


def call_schema(functions: Mapping[str, Schema], syntax: ToolSyntax) -> dict[str, Any]:
    """Return the schema of one call of any of the functions, given the schema of each one's arguments."""
    definitions = {str(index): _moved(schema, index) for index, schema in enumerate(functions.values())}
    calls = [
        {
            "type": "object",
            "properties": {syntax.name: {"const": name}, syntax.arguments: {"$ref": f"#/$defs/{index}"}},
            "required": [syntax.name, syntax.arguments],
            "additionalProperties": False,
        }
        for index, name in enumerate(functions)
    ]
    return {"anyOf": calls, "$defs": definitions}


def _moved(value: Any, index: int) -> Any:  # noqa: ANN401 -- any part of a schema
    """Return a schema with its references set right for its new place."""
    if isinstance(value, Mapping):
        return {
            key: f"#/$defs/{index}{member[1:]}"
            if key == "$ref" and isinstance(member, str) and member.startswith("#")
            else _moved(member, index)
            for key, member in value.items()
        }
    return [_moved(each, index) for each in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Calls:
    """What an answer may call, and how.

    ``functions``: the schema of each one's arguments. ``parallel``: there may be several calls. ``strict``: a
    schema that cannot be enforced to the letter is refused. ``begun``: the prompt ends with the begin of a
    call; otherwise the model chooses. ``answer``: the schema of an answer without a call; ``None`` for any
    text.
    """

    functions: Mapping[str, Schema]
    syntax: ToolSyntax
    parallel: bool
    strict: bool
    begun: bool
    answer: Schema | None

    def constraint(self) -> Constraint:
        """Return the answer's constraint. Raises ``ApiError`` 400 for schemas that are too large together."""
        sample = None
        if self.syntax.tokens:
            tokens = dict.fromkeys(self.syntax.tokens, _FIRST_TOKEN)
            sample = replace(self, syntax=replace(self.syntax, tokens=tokens))._grammar()
        return bounded(
            Constraint(
                self._grammar(),
                self._schema() if self.begun else None,
                required=self.begun or self.answer is not None,
                param="tools",
                sample=sample,
            )
        )

    def _schema(self) -> str | None:
        """Return the schema of the text after the begin of a call; ``None`` where that is not JSON."""
        call = call_schema(self.functions, self.syntax)
        if self.syntax.form == "object":
            return json_text(call, strict=self.strict)
        if self.syntax.form != "list":
            return None
        definitions = call.pop("$defs")
        several = {} if self._several else {"maxItems": 1}
        return json_text(
            {"type": "array", "items": call, "minItems": 1, **several, "$defs": definitions},
            strict=self.strict,
        )

    @property
    def _several(self) -> bool:
        return self.parallel and not self.syntax.single

    def _grammar(self) -> str:
        syntax = self.syntax
        rules = getattr(self, f"_{syntax.form}_rules")()
        tag = self._tag(syntax.opening or syntax.optional)
        others = ""
        if self._several and syntax.form != "list":
            rules["next"] = f"{_GAP} {tag if syntax.opening else ''} call"
            others = "next*"
        rules["call"] = self._after(syntax.opening)
        if self.begun:
            start = f"{self._after(syntax.begin)} {others}"
        elif self.answer is not None:
            rules["answer"] = f"%json {json_text(self.answer, strict=self.strict)}"
            start = f"answer | {tag if syntax.opening else ''} call {others}"
        else:
            start = self._or_text(rules, tag, others)
        return grammar_of(f"start: {start}", rules)

    def _or_text(self, rules: Rules, tag: str, others: str) -> str:
        """Return the start of an answer of any text, with calls if the model begins one."""
        syntax = self.syntax
        if syntax.opening in syntax.tokens:
            rules["TEXT"] = "/(?s:.+)/"
            return f"TEXT? | TEXT? {tag} call {others}"
        if not syntax.opening:
            name = _pattern(json.dumps(syntax.name))
            rules["TEXT"] = rf"/(?s:.+)/ & ~/(?s:\s*\{{\s*{name}.*)/"
            begin = f"{tag}? call" if syntax.optional in syntax.tokens else "call"
            return f"TEXT? | {begin} {others}"
        # The shortest text up to the tag, or one without it.
        opening = _pattern(syntax.opening)
        rules["tagged[lazy]"] = f"/(?s:.*{opening})/"
        rules["TEXT"] = f"/(?s:.+)/ & ~/(?s:.*{opening}.*)/"
        return f"TEXT? | tagged call {others}"

    def _after(self, begun: str) -> str:
        """Return a call of which the prompt or another rule has the begin."""
        syntax = self.syntax
        space = syntax.after[: len(syntax.after) - len(syntax.closing)]
        texts = [_literal(syntax.before[len(begun) :]), "value", _literal(space), self._tag(syntax.closing)]
        return " ".join(text for text in texts if text != _literal(""))

    def _tag(self, text: str) -> str:
        token = self.syntax.tokens.get(text)
        return _literal(text) if token is None else f"<[{token}]>"

    def _object_rules(self) -> Rules:
        return {"value": f"%json {json_text(call_schema(self.functions, self.syntax), strict=self.strict)}"}

    def _list_rules(self) -> Rules:
        item = f"%json {json_text(call_schema(self.functions, self.syntax), strict=self.strict)}"
        several = f"({_literal(', ')} item)*" if self._several else ""
        return {"item": item, "value": f'"[" item {several} "]"'}

    def _named_rules(self) -> Rules:
        separator = self._tag(self.syntax.separator) if self.syntax.separator else ""
        rules = {
            f"arguments{index}": f"%json {json_text(schema, strict=self.strict)}"
            for index, schema in enumerate(self.functions.values())
        }
        heads = (f"{_literal(name)} {separator} arguments{i}" for i, name in enumerate(self.functions))
        return rules | {"value": " | ".join(heads)}

    def _parameters_rules(self) -> Rules:
        rules: Rules = {}
        for index, (name, schema) in enumerate(self.functions.items()):
            members = list(self._members(name, schema, f"p{index}x", rules))
            head, end = _literal(f"<function={name}>\n"), _literal("</function>")
            rules[f"function{index}"] = " ".join([head, *members, end])
        return rules | {"value": " | ".join(f"function{index}" for index in range(len(self.functions)))}

    def _members(self, function: str, schema: Schema, prefix: str, rules: Rules) -> Iterator[str]:
        """Yield the symbols of a function's parameters in their order; those that may be missing optional."""
        found = parameter_types.resolved(schema, schema)
        properties, required = found.get("properties") or {}, found.get("required") or ()
        if not properties and found.get("additionalProperties") is not False:
            rules["text[lazy]"] = _TEXT_VALUE
            rules["anything"] = rf"/<parameter=[^<>\n]{{1,64}}>/ {_BREAK} text {_BREAK}"
            yield "anything*"
        for position, (key, value) in enumerate(properties.items()):
            if not _WRITABLE.fullmatch(key):
                raise refused(f"{key[:64]!r} of {function} cannot be written in a tag", "tools")
            symbol = f"{prefix}{position}"
            head = _literal(f"<parameter={key}>\n")
            rules[symbol] = f"{head} {self._value(key, value, schema, rules)}"
            yield symbol if key in required else f"{symbol}?"

    def _value(self, key: str, value: Any, root: Schema, rules: Rules) -> str:  # noqa: ANN401 -- any JSON
        """Return what a parameter's value is in the grammar, with its closing tag."""
        end = _literal("\n</parameter>\n")
        found = parameter_types.resolved(value, root)
        allowed = parameter_types.types(value, root)
        choices = [found["const"]] if "const" in found else found.get("enum")
        if allowed == {"string"} and isinstance(choices, list):
            return f"({' | '.join(_literal(each) for each in choices if isinstance(each, str))}) {end}"
        if "string" not in allowed:
            member = found if "$ref" not in json.dumps(found) else _member(key, root)
            return f"%json {json_text(member, strict=self.strict)} {end}"
        missed = [word for word in _UNENFORCED if word in found]
        if self.strict and missed:
            raise refused(
                f"{missed[0]} cannot be enforced in this model's syntax of calls; leave it or strict out",
                "tools",
            )
        rules["text[lazy]"] = _TEXT_VALUE
        return f"text {_BREAK}"


def _member(key: str, root: Schema) -> dict[str, Any]:
    """Return a parameter's schema with all that it may refer to."""
    path = key.replace("~", "~0").replace("/", "~1")
    found = parameter_types.resolved(root, root)
    return {"$ref": f"#/$defs/0/properties/{path}", "$defs": {"0": _moved({**root, **found}, 0)}}


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _pattern(text: str) -> str:
    """Return a regular expression that matches the text, in Lark's slashes."""
    return "".join(c if c.isalnum() or ord(c) > 0x7F else f"\\x{ord(c):02X}" for c in text)


# The shortest text up to the tag, so that the tag is in no value.
_TEXT_VALUE = f"/(?s:.*{_pattern('</parameter>')})/"
