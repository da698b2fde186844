"""The report of a deep model reassembly."""
from dataclasses import replace
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmreuse.reassembly.assembly.emit import load_candidates
from mmreuse.reassembly.partition.files import load_partition
from mmreuse.reassembly.similarity.similarity_matrix import load_similarity
from mmreuse.visualization import Report, draw_pareto, draw_partition, draw_similarity

#: Networks up to which all are drawn.
_DRAWN = 40
_FILES = ('candidates.json', 'pareto.json', 'rank1.py', 'random.py')


def report_reassembly(root: Path, cfg: Config) -> None:
    """Write ``report.html`` into the folder of a ``DeRyRunner``."""
    report = Report(root.name)
    add_reassembly(report, root)
    report.files({name: root / 'reassembly' / name for name in _FILES}, root)
    report.details('Config', cfg.pretty_text)
    report.write(root / 'report.html')


def add_reassembly(report: Report, root: Path) -> None:
    """Add the similarity, the blocks and the scored assemblies of a ``DeRyRunner``.

    Args:
        report: Gets a section.
        root: Its folder.
    """
    similarity = load_similarity(root / 'similarity' / 'similarity.safetensors')
    partition = load_partition(root / 'partition' / 'partition.json')
    candidates, front = (load_candidates(root / 'reassembly' / name) for name in _FILES[:2])
    proxy = next(iter(candidates[0].scores))
    best = max(candidates, key=lambda candidate: candidate.scores[proxy])
    nets = list(dict.fromkeys(block.model for block in best.genotype.blocks))
    report.section(
        'Assemblies', f'Trained networks were cut into {partition.num_blocks} blocks each, whose equivalence sets '
        f'tell what may stand for what; {len(candidates)} assemblies within the budget were scored by {proxy}.',
        f'The best by {proxy} has {best.params / 1e3:,.0f} k parameters and {best.flops / 1e6:.2f} M MACs, with blocks '
        f'of {", ".join(nets)}; {len(front)} of {len(candidates)} lie on the Pareto front.')
    of = ''
    if len(similarity.keys) > _DRAWN:
        nets = list(dict.fromkeys([*nets, *(anchor.model for anchor in partition.anchors)]))
        of = f' Of {len(similarity.keys)} networks those of the best assembly and of the anchors.'
        similarity = similarity.sub(nets)
        partition = replace(partition, blocks={key: partition.blocks[key] for key in nets})
    sizes = {key: len(names) + 1 for key, names in similarity.node_names.items()}
    report.figures({
        f'How alike the features are, of all places where the networks can be cut.{of}':
            draw_similarity(similarity.table[np.arange(sum(sizes.values()))], sizes),
        f'Blocks, coloured by equivalence set; the anchor of each set is hatched.{of}': draw_partition(partition),
        'Assemblies that the proxy scored.': draw_pareto(candidates, front, proxy)})
