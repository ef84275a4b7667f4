"""What a gateway on another host than the model needs of it: its tokenizer, without the weights.

``python -m serving.tokenizer_files FOLDER`` prints it as one JSON object by file name: text, or Base64 for a
file whose name ends in ``.gguf``. Of a GGUF file it is the metadata of the tokenizer, as a file of its own.
"""

import base64
import json
import struct
import sys
from pathlib import Path

from serving.backend import gguf_header
from serving.backend.gguf_header import Header

VOCABULARY = "vocabulary.gguf"
_TOKENIZER, _CONFIG, _TEMPLATE = "tokenizer.json", "config.json", "chat_template.jinja"
_DOCUMENTS = (_TOKENIZER, _CONFIG, "tokenizer_config.json", _TEMPLATE)
_TEMPLATE_KEY = "tokenizer.chat_template"
_DEFAULT_CONTEXT = 2048


def documents(folder: Path) -> dict[str, str]:
    """Return the files by name; the module says in which form.

    Raises ``OSError`` for a missing file and ``ValueError`` for one that cannot be read.
    """
    files = sorted(folder.glob("*.gguf"))
    texts = {name: (folder / name).read_text("utf-8") for name in _DOCUMENTS if (folder / name).is_file()}
    header = gguf_header.read(files[0]) if len(files) == 1 else None
    if header is None or (_TOKENIZER in texts and _has_numbered_tokens(header)):
        if _TOKENIZER not in texts:
            count = f"{len(files)} GGUF files"
            raise ValueError(f"{folder} has no {_TOKENIZER} and {count}: keep the one to serve")
        return texts
    texts.pop(_TOKENIZER, None)
    context = header.shape("context_length", _DEFAULT_CONTEXT)
    own = {
        VOCABULARY: base64.b64encode(_vocabulary(files[0], header)).decode("ascii"),
        _CONFIG: json.dumps({"n_positions": context}),
    }
    if template := header.metadata.get(_TEMPLATE_KEY):
        own[_TEMPLATE] = template
    return own | texts


def vocabulary(file: Path) -> bytes:
    """Return a GGUF file of the tokenizer alone: the same bytes for two files with the same tokenizer.

    Raises ``ValueError`` for what is not a GGUF file.
    """
    return _vocabulary(file, gguf_header.read(file))


def _vocabulary(file: Path, header: Header) -> bytes:
    spans = [
        span
        for key, span in sorted(header.spans.items())
        if key == "general.architecture"
        or (key.startswith("tokenizer.") and not key.startswith(_TEMPLATE_KEY))
    ]
    data = struct.pack("<4sIQQ", gguf_header.MAGIC, header.version, 0, len(spans))
    with file.open("rb") as stream:
        for begin, end in spans:
            stream.seek(begin)
            data += stream.read(end - begin)
    return data


def _has_numbered_tokens(header: Header) -> bool:
    """Return whether each token's name is its id, as ``serving.convert`` writes: no text is meant by it."""
    names = header.metadata.get("tokenizer.ggml.tokens") or []
    return names[:3] == [f"<{index}>" for index in range(3)]


def main(folder: str) -> int:
    """Print the documents; return 1, with the reason on standard error, for a folder that has none."""
    try:
        texts = documents(Path(folder))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{folder} has no vocabulary that the gateway can read: {error}\n")
        return 1
    json.dump(texts, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
