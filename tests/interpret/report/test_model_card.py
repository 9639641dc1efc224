import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml
from fastai.learner import Learner
from scipy.stats import norm
from tiny import TINY, tiny_dls, tiny_net

from config.options import resolve_config
from config.recipes import SPEEDRUN
from interpret.interpretation import GradCAMInterpretation
from interpret.report.model_card import write_card

SUMMARY = {
    'parameters': 1234567, 'lr': 0.0125, 'best_epoch': 7, 'test_accuracy': 5 / 12, 'test_loss': 1.5, 'seconds': 1234.5,
    'test_selected_on': False, 'balanced_accuracy': 0.375,
}  # fmt: skip
# predictions for four images of each class: one, two and two are right
ANSWERS = [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 1]


@pytest.fixture
def card(folder, tmp_path):
    """Write the card of `answers`; return its front matter and its text."""

    def make(answers=ANSWERS, vocab=('blue', 'green', 'red'), recipe=TINY, **summary):
        run = tmp_path / 'a: run'
        run.mkdir(exist_ok=True)
        asked = replace(resolve_config({'data': str(folder), 'seed': 7}), recipe=TINY)
        model = {'classes': ['blue', 'green', 'red'], 'size': [16, 16], 'resized': False}
        config = {**asked.as_json(), **model, 'images': '', 'surroundings': {'torch': '1|2'}}
        (run / 'config.json').write_text(json.dumps(config))
        dls = tiny_dls(folder, recipe, valid=0.25 if recipe.valid else 0.0)
        learn = Learner(dls, tiny_net(3, 1, 0.0), torch.nn.functional.cross_entropy, path=run)
        learn.recipe = recipe
        targs, decoded = torch.arange(12) // 4, torch.tensor(answers)
        preds = torch.nn.functional.one_hot(decoded, 3).float()
        interp = GradCAMInterpretation(learn, learn.dls[2], preds, targs, torch.ones(12))
        interp.vocab = list(vocab)
        file = write_card(interp, {**SUMMARY, **summary})
        assert file == run / 'model_card.md'
        _, front, text = file.read_text(encoding='utf-8').split('---\n', 2)
        return SimpleNamespace(front=yaml.safe_load(front), head=front, text=text)

    return make


def rows(text, head):
    """The cells below a table's head."""
    table = text.split(head)[1].split('\n\n')[0]
    return [re.split(r' \| ', line.strip('| ')) for line in table.splitlines()[2:]]


def test_scores_and_confusions_of_each_class(card):
    made = card()
    assert rows(made.text, '| class | test images | recall | precision |') == [
        ['blue', '4', '25.0%', '50.0%'], ['green', '4', '50.0%', '33.3%'], ['red', '4', '50.0%', '50.0%'],
    ]  # fmt: skip
    assert rows(made.text, '| actual | predicted | test images |') == [
        ['blue', 'green', '3'], ['green', 'red', '2'], ['red', 'blue', '1'], ['red', 'green', '1'],
    ]  # fmt: skip


def test_accuracy_and_how_the_epoch_was_chosen(card):
    made = card()
    z, n, p = norm.ppf(0.975), 12, 5 / 12  # Wilson's interval, by its formula
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    assert f'**41.67% of 12 test images** are classified correctly (95% interval {low:.2%} to {high:.2%}' in made.text
    assert 'The balanced accuracy (mean recall of the classes) is 37.50%.' in made.text
    assert 'the lowest loss on the validation set.\nThe test set was not used for this choice.' in made.text
    assert 'optimistic' not in made.text
    selected = card(test_selected_on=True).text
    assert 'the lowest loss on the test set.' in selected
    assert 'so the test accuracy is optimistic' in selected
    assert 'not used for this choice' not in selected


def test_no_held_out_images_and_views(card):
    text = card(recipe=replace(SPEEDRUN, bs=4)).text
    assert '24 training and 0 validation images' in text
    assert 'The weights are those of the last epoch, 8: no images were held out' in text
    assert 'The test set was not used for this choice.' in text
    assert 'a mean over views' in text
    assert 'a mean over views' not in card().text


def test_limits(card):
    text = card(recipe=replace(TINY, pretrained=True), imbalance='the classes are unbalanced: 24 <of> red').text
    assert '- The classes are unbalanced: 24 &#60;of&#62; red.' in text
    assert 'It started from published weights of resnet18, trained on ImageNet, and inherits' in text
    own = card(recipe=replace(TINY, pretrained=True, weights='/home/somebody/a.pth')).text
    assert 'It started from the weights in a.pth, and inherits' in own
    assert 'somebody' not in own
    assert 'It sees the centre of an image, resized to 224x224.' in text  # the usual size for such weights
    plain = card().text
    assert 'until they cover 16x16' in plain
    assert 'unbalanced' not in plain
    assert 'It started from' not in plain


def test_front_matter_is_hugging_faces(card):
    made = card()
    assert made.front['pipeline_tag'] == 'image-classification'
    assert 'license' not in made.front
    assert made.head.startswith('# license: fill in, or leave out')
    ((model),) = made.front['model-index']
    (result,) = model['results']
    assert model['name'] == 'a: run'
    assert result['task'] == {'type': 'image-classification'}
    assert result['dataset']['name'] == 'images'
    assert result['metrics'] == [{'type': 'accuracy', 'value': pytest.approx(5 / 12)}]


def test_training_facts_without_paths(card, folder):
    text = card().text
    assert '| data | images: 18 training and 6 validation images |' in text
    assert '| recipe | plateau, seed 7 |' in text
    assert '| mom | 0.9 |' in text
    assert '1,234,567 parameters, images of\n16x16 pixels' in text
    assert str(folder.parent) not in text


def test_names_are_escaped(card):
    made = card(vocab=('a|b', '<script>x</script>', 'c\n# d [e](f) `g` *h*'))
    assert '<' not in made.text.replace('<name>', '')
    assert '| a&#124;b | 4 | 25.0% | 50.0% |' in made.text
    assert 'c&#10;# d &#91;e&#93;(f) &#96;g&#96; &#42;h&#42;' in made.text
    assert '| torch | 1&#124;2 |' in made.text


def test_without_mistakes_it_says_so(card):
    text = card(answers=[0] * 4 + [1] * 4 + [2] * 4, test_accuracy=1.0).text
    assert 'All test images were classified correctly.' in text
    assert '100.00% of 12' in text


def test_a_name_that_is_not_utf_8_is_written(card):
    assert r'caf\udce9' in card(vocab=('a', 'b', 'caf\udce9')).text
