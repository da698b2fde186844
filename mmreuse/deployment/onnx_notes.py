"""What an ONNX file that was made of a network says of it, and of what it needs."""
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmreuse.errors import ArtefactError

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
    """Return the notes of a file; of one that has none, nothing.

    Raises:
        ArtefactError: It is missing, damaged or no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError
    try:
        model = onnx.load(str(path), format='protobuf', load_external_data=False)  # whatever its name says
        notes = json.loads({each.key: each.value for each in model.metadata_props}.get(_KEY, '{}'))
    except (DecodeError, OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f'{path}: is damaged, or no ONNX file ({error}). Export the network again.') from error
    if not isinstance(notes, dict):
        raise ArtefactError(f'{path}: is damaged, its notes are none of mmreuse. Export the network again.')
    return notes
