"""Edits: how a changed structure is built again from the networks it was made of."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.networks.bases import build_base
from mmreuse.networks.resize import resize
from mmreuse.registry import EDITS
from mmreuse.utils.names import nearest


class Edit:
    """One kind of change.

    A subclass is registered under the name that :func:`~mmreuse.networks.record.record_edit` notes. As it stands the
    class is for changes of values and sizes: it keeps the modules of its only network, and applies ``sizes`` where
    the settings have them.
    """

    #: What was done, behind the description of a network: with its settings in place of braces, or in brackets.
    verb = 'changed'
    #: Whether layers keep their names, and outputs their order: what is gone is in ``sizes``, and which outputs are
    #: left in ``outputs``, ``{layer: [numbers]}``, where the edit knows.
    keeps_layers = True

    def rebuild(self, networks: Sequence[nn.Module], settings: Mapping[str, Any]) -> nn.Module:
        """Build the structure; values of parameters mean nothing yet.

        Args:
            networks: What the edit was made of, rebuilt.
            settings: As noted.

        Returns:
            nn.Module: May be the first of the networks, or hold them.

        Raises:
            ArtefactError: The settings are of other networks.
        """
        if 'problem' in settings:
            raise ArtefactError(settings['problem'])
        network, = networks
        return resize(network, settings['sizes']) if settings.get('sizes') else network

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Say what was done, to be read behind the network it was done to."""
        if '{' in self.verb:
            return self.verb.format_map(settings)
        shown = {key: value for key, value in settings.items()
                 if key not in ('edit', 'weights') and isinstance(value, str | int | float | bool)}
        options = ', '.join(f'{key} {value}' for key, value in shown.items())
        return f'{self.verb} ({options})' if options else self.verb


@EDITS.register_module(name='resize')
class Resize(Edit):
    """Sizes, constant layers and added biases that no other edit has noted."""
    verb = 'resized'


@EDITS.register_module(name='train')
class Train(Edit):
    """Weights trained."""
    verb = 'trained for {epochs} epochs'


@EDITS.register_module(name='distill')
class Distill(Edit):
    """Weights trained, without labels; the first network is the one that was, others taught it."""

    def rebuild(self, networks: Sequence[nn.Module], settings: Mapping[str, Any]) -> nn.Module:
        """Return the structure of the first."""
        return super().rebuild(networks[:1], settings)

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Say for how long."""
        unit = 'steps' if 'steps' in settings else 'epochs'
        return f'distilled for {settings[unit]} {unit}'


@EDITS.register_module(name='reassemble')
class Reassemble(Edit):
    """Blocks of trained networks put into an assembly of them."""

    def phrase(self, settings: Mapping[str, Any]) -> str:
        """Say of which networks."""
        return f"assembled of blocks of {', '.join(settings['blocks'])}"


def find_edit(name: str) -> Edit:
    """Return a registered edit.

    Raises:
        ArtefactError: There is none of that name; a later version may have it.
    """
    EDITS.import_from_location()
    if name not in EDITS.module_dict:
        raise ArtefactError(f"there is no edit '{name}': the file was made by a later version of mmreuse, or by a "
                            f'package that is not imported. {nearest(name, EDITS.module_dict)}')
    return EDITS.module_dict[name]()


def rebuild(structure: Mapping[str, Any], *, trust_code: bool = False) -> nn.Module:
    """Build a structure from its tree of bases and edits; values of parameters mean nothing yet.

    Args:
        structure: See :class:`~mmreuse.networks.record.Record`.
        trust_code: Import and call bases of the user's own code.

    Raises:
        ArtefactError: The tree is malformed, or names an edit or base that is not there.
    """
    if 'base' in structure:
        with torch.random.fork_rng(devices=[]):  # random weights that nobody will see
            return build_base(structure, trust_code=trust_code)
    if not isinstance(structure.get('edit'), str) or not isinstance(structure.get('of'), list) or not structure['of']:
        raise ArtefactError('the structure is neither a base nor an edit of networks.')
    edit = find_edit(structure['edit'])
    networks = [rebuild(each, trust_code=trust_code) for each in structure['of']]
    settings = {key: value for key, value in structure.items() if key not in ('edit', 'of', 'weights')}
    try:
        return edit.rebuild(networks, settings)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        raise ArtefactError(f"the settings of the edit '{structure['edit']}' are damaged or of other networks "
                            f'({type(error).__name__}: {error}).') from error
