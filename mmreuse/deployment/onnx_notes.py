"""What an ONNX file that was made of a network says of it."""
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_KEY = 'mmreuse'


def write_notes(path: Path, notes: Mapping[str, Any]) -> None:
    """Put notes, JSON values, into the metadata of a file."""
    import onnx
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {_KEY: json.dumps(dict(notes))})
    onnx.save(model, str(path))


def read_notes(path: Path) -> dict[str, Any]:
    """Return the notes of a file; of one that has none, nothing."""
    import onnx
    found = {each.key: each.value for each in onnx.load(str(path), load_external_data=False).metadata_props}
    return json.loads(found.get(_KEY, '{}'))
