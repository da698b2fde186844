"""Networks as files: one safetensors file that rebuilds any network of the toolbox, and says what was done to it."""
from mmreuse.networks.bases import create
from mmreuse.networks.content.modules import modules_of, with_modules
from mmreuse.networks.describe import describe
from mmreuse.networks.edits import Edit
from mmreuse.networks.find import get_model, list_models
from mmreuse.networks.network_file import is_network_file, load, save
from mmreuse.networks.own_code import trust
from mmreuse.networks.record import Record, record_change, record_edit, record_of, structure_of
from mmreuse.networks.references import open_network

__all__ = ['Edit', 'Record', 'create', 'describe', 'get_model', 'is_network_file', 'list_models', 'load',
           'modules_of', 'open_network', 'record_change', 'record_edit', 'record_of', 'save', 'structure_of', 'trust',
           'with_modules']
