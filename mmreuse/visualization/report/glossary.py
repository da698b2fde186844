"""Words of the field, explained where a report uses them."""
import html
import re
from collections.abc import Iterable

WORDS = {
    'accuracy': 'share of the test images that get the right class, in percent.',
    'activation matching': 'channels of two networks are paired by how alike their outputs are on the same images.',
    'anchor': 'the block that an equivalence set was gathered around: the others are there for being like it.',
    'calibrate': 'every layer is refitted, in order, to what it gave in the networks it came from: in closed form, on '
                 'a few hundred images without labels.',
    'CKA': 'centred kernel alignment: how alike the features of two layers are, from 0 to 1, whatever their widths '
           'and rotations.',
    'compacted': 'what has no effect on the outputs is removed, so that the network is really smaller.',
    'ensemble': 'all networks are run and their probabilities averaged: as dear as all together, and hard to beat.',
    'equal cost': 'a network as large as the one it stands beside, chosen without the method: random channels instead '
                  'of ranked ones, for instance.',
    'equivalence set': 'blocks of several networks that may take the place of each other.',
    'feature space': 'channels that must change together, as an addition or a layer ties them to each other.',
    'from random': 'the same job and the same repair with random weights: what it has without anything learned before.',
    'from scratch': 'the same structure, trained from random weights for as long.',
    'identity': 'channels are averaged as they are numbered, without matching.',
    'joint': 'accuracy where the network decides among all classes of all tasks.',
    'latency': 'time of one pass: the median, with the 10th and 90th percentile where two values follow it.',
    'linear probe': 'a linear classifier on frozen features.',
    'MACs': 'multiply-accumulate operations for one image.',
    'MMACs': 'millions of multiply-accumulate operations for one image.',
    'module': 'the part of a network that some of its classes need.',
    'naswot': 'a score of an untrained network: how differently its ReLUs answer to different images.',
    'ONNX': 'a file format that other inference engines read.',
    'ONNX Runtime': 'an inference engine that runs ONNX files.',
    'Pareto front': 'networks that none of the others beats in score and in cost at once.',
    'permute': 'channels of the second network are put into the order of the first by their correlations, then '
               'averaged.',
    'proxy': 'a score that stands for the accuracy after training, and takes seconds.',
    'reassembled': 'put together from blocks of several trained networks.',
    'repair': 'REPAIR: each channel of a merged network gets the mean and deviation that it has in its sources.',
    'reset': "batch norms' statistics are measured anew in the changed network.",
    'ridge_probe': 'proxy: the error of a regularised linear regression from the features to the classes.',
    'stitching layer': 'a small layer that fits the output of one block to the input of the next.',
    'task average': "mean over tasks of the accuracy among the classes of an image's own task.",
    'weight matching': 'channels of two networks are paired by how alike their weights are, without data.',
    'zip': 'ZipIt!: channels that correlate are merged, also within one network.',
}
_BY_LENGTH = sorted(WORDS, key=len, reverse=True)
_ANY = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, _BY_LENGTH))})(s|es)?(?![\w-])", re.IGNORECASE)
_CANONICAL = {word.lower(): word for word in WORDS}


class Glossary:
    """Links words to their explanations and keeps which ones it has met."""

    def __init__(self) -> None:
        self._met: set[str] = set()

    def marked(self, text: str) -> str:
        """Return a text as HTML, with a link from each word at its first place in the text."""
        seen: set[str] = set()

        def link(found: re.Match) -> str:
            word = _CANONICAL[found[1].lower()]
            if word in seen:
                return found[0]
            seen.add(word)
            self._met.add(word)
            return f'<a class="term" href="#{_anchor(word)}" title="{html.escape(WORDS[word])}">{found[0]}</a>'

        # Escapes hold no words of the glossary: amp, lt, gt, quot, x27.
        return _ANY.sub(link, html.escape(text))

    def meet(self, texts: Iterable[str]) -> None:
        """Take words in that are not linked, such as those of a figure's legend."""
        self._met |= {_CANONICAL[found[1].lower()] for text in texts for found in _ANY.finditer(text)}

    def listed(self) -> str:
        """Return the explanations of all words met, as HTML; nothing if there are none."""
        if not self._met:
            return ''
        items = ''.join(f'<dt id="{_anchor(word)}">{html.escape(word)}</dt><dd>{html.escape(WORDS[word])}</dd>\n'
                        for word in sorted(self._met, key=str.lower))
        return f'<section id="words"><h2>Words</h2>\n<dl>\n{items}</dl></section>'


def _anchor(word: str) -> str:
    return 'word-' + re.sub(r'\W+', '-', word.lower())
