"""The model card of a run describes its model, training and test results for people who receive the files."""

import re
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from scipy.stats import binomtest

from config.saved import read_config
from interpret.interpretation import GradCAMInterpretation
from runtime.files import replacing

CONFUSED = 10  # maximum number of pairs of classes


def write_card(interp: GradCAMInterpretation, summary: dict) -> Path:
    """Write model_card.md, in Hugging Face's format, to the run folder of `interp` and return its path.

    The facts come from `summary` (as in summary.json), config.json and the test set. License and intended use are left
    for a person to fill in or remove. https://huggingface.co/docs/hub/model-cards
    """
    run, dls, recipe = interp.learn.path, interp.learn.dls, interp.learn.recipe
    saved, right = read_config(run), (interp.decoded == interp.targs).sum().item()
    env = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True)
    env.filters['md'] = _plain
    template = env.get_template('model_card.md.j2')
    text = template.render(
        name=run.resolve().name,
        data=Path(saved.config.data).name,  # without its folder: the card is for other people
        seed=saved.config.seed,
        recipe={**asdict(recipe), 'weights': Path(recipe.weights).name},
        environment=saved.environment,
        summary=summary,
        classes=list(interp.vocab),
        size=dls.size,
        resized=dls.resized,
        sizes=[len(dl.dataset) for dl in dls.loaders],
        left_out=len(dls.left_out),
        interval=binomtest(right, len(interp.targs)).proportion_ci(method='wilson'),
        scores=interp.per_class().sort_values('recall', kind='stable').to_dict('records'),
        confused=interp.most_confused()[:CONFUSED],
    )
    with replacing(run / 'model_card.md') as part:
        part.write_text(text, encoding='utf-8', errors='backslashreplace')  # a folder's name need not be UTF-8
    return run / 'model_card.md'


def _plain(value: object) -> str:
    """Escape Markdown and HTML in `value`, and the ends of lines and table cells."""
    return re.sub(r'[`*_\\\[\]<>&|~$\r\n]', lambda sign: f'&#{ord(sign[0])};', str(value))
