"""The model card of a run: what its model is, how it was made and how well it does, for whoever is handed its files."""

import re
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from scipy.stats import binomtest

from atomic import replacing
from interpret.interpretation import GradCAMInterpretation
from interpret.per_class import per_class
from options import read_config

CONFUSED = 10  # pairs of classes, at most


def write_card(interp: GradCAMInterpretation, summary: dict) -> Path:
    """Write model_card.md, in Hugging Face's format, to the run folder of `interp` and return its path.

    It has the facts of `summary` (as summary.json), config.json and the test set. What only a person can say, license
    and intended use, is left to fill in or out. https://huggingface.co/docs/hub/model-cards
    """
    run, dls = interp.learn.path, interp.learn.dls
    config, right = read_config(run / 'config.json'), (interp.decoded == interp.targs).sum().item()
    env = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True)
    env.filters['md'] = _plain
    template = env.get_template('model_card.md.j2')
    text = template.render(
        name=run.resolve().name,
        data=Path(config['options']['data']).name,  # not where it lies: the card is for others
        options=config['options'],
        recipe=asdict(interp.learn.recipe),
        surroundings=config['surroundings'],
        summary=summary,
        classes=list(interp.vocab),
        size=dls.size,
        resized=dls.resized,
        sizes=[len(dl.dataset) for dl in dls.loaders],
        left_out=len(dls.left_out),
        interval=binomtest(right, len(interp.targs)).proportion_ci(method='wilson'),
        scores=per_class(interp).sort_values('recall', kind='stable').to_dict('records'),
        confused=interp.most_confused()[:CONFUSED],
    )
    with replacing(run / 'model_card.md') as part:
        part.write_text(text, encoding='utf-8', errors='backslashreplace')  # a folder's name need not be UTF-8
    return run / 'model_card.md'


def _plain(value: object) -> str:
    """`value` as Markdown shows it: nothing in it counts as markup, HTML or the end of a line or cell."""
    return re.sub(r'[`*_\\\[\]<>&|~$\r\n]', lambda sign: f'&#{ord(sign[0])};', str(value))
