"""What an ONNX file that was made of a network says of it, and of what it needs."""
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_KEY = 'mmreuse'


def write_notes(path: Path, notes: Mapping[str, Any]) -> None:
    """Put notes, JSON values, into the metadata of a file; take out sets of operators that it does not use.

    ONNX Runtime names all that it knows, in versions that other engines refuse.
    """
    import onnx
    model = onnx.load(str(path))
    used = {node.domain for node in model.graph.node}
    versions = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(versions)
    onnx.helper.set_model_props(model, {_KEY: json.dumps(dict(notes))})
    onnx.save(model, str(path))


def read_notes(path: Path) -> dict[str, Any]:
    """Return the notes of a file; of one that has none, nothing."""
    import onnx
    found = {each.key: each.value for each in onnx.load(str(path), load_external_data=False).metadata_props}
    return json.loads(found.get(_KEY, '{}'))
