"""The review page in a real browser: its content, stored verdicts and export."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from fastai.learner import Learner
from matplotlib import colormaps
from pages import ANSWERS, BLUE, FILES, GREEN, RED, VOCAB, in_browser, interpret, opened
from PIL import Image
from playwright.sync_api import expect
from sklearn.metrics import precision_recall_fscore_support
from tiny import tiny_dls, tiny_net, write_images
from torchvision.models import resnet18

from interpret.gradcam import grad_cam
from interpret.hooks import NoMaps
from interpret.interpretation import GradCAMInterpretation
from interpret.report import page as page_module
from interpret.report.page import write_report

SUMMARY = {
    'parameters': 1234, 'lr': 0.0125, 'best_epoch': 7, 'best_valid_accuracy': 0.51, 'max_train_accuracy': 0.625,
    'test_accuracy': 5 / 12, 'test_loss': 1.5, 'test_selected_on': True, 'seconds': 1234.5,
    'phases': {'images': 12.3, 'sweep': 30.0, 'training': 1204.5}, 'imbalance': 'the classes are <b>unbalanced</b>',
    'course_project': {'max_train_accuracy': 0.9176, 'test_accuracy': 0.9033},
}  # fmt: skip

FAITHFULNESS = pd.DataFrame(
    {
        'images': 8,
        'score': [0.1, 0.234, 0.3, 0.5], 'over_random': [0.01, 0.2, 0.31, 0.456],
        'over_centre': [-0.001, 0.1, 0.02, 0.4], 'unlike_random_weights': [1.2, 0.9, 0.8, 0.7],
        'score_ci': 0.05, 'over_random_ci': 0.06, 'over_centre_ci': 0.07, 'unlike_random_weights_ci': 0.081,
        'faithful': [False, True, False, True],
    },
    index=['layer1', 'layer2', 'layer3', 'layer4'],
)  # fmt: skip


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A finished run and its page."""
    tmp = tmp_path_factory.mktemp('report')
    run = tmp / 'run <1>'
    (run / 'plots/augmented').mkdir(parents=True)
    for name in ('accuracy', 'accuracy_loss', 'lr_find', 'augmented/a "quoted" class'):
        Image.new('RGB', (300, 200), 'white').save(run / f'plots/{name}.png')
    (run / 'summary.json').write_text(json.dumps(SUMMARY))
    (run / 'config.json').write_text('{"data": "</script> & <b>"}')
    (run / 'history.csv').write_text('epoch,valid_loss,lr\n0,1.5,0.1\n1,1.25,0.02\n')
    images = write_images(tmp / 'images')
    interp = interpret(images, ANSWERS)
    interp.faithfulness = FAITHFULNESS
    return SimpleNamespace(images=images, interp=interp, table=interp.mistakes(None), page=write_report(interp, run))


@pytest.fixture
def page(browser, made):
    with opened(browser, made.page) as page:
        yield page


def text(locator) -> str:
    """The visible text, in one line."""
    return ' '.join(locator.inner_text().split())


def described(row) -> str:
    """A row of `mistakes()` as the page shows it."""
    return (
        f'Predicted {row.predicted} {row.probability:.1%} Actual {row.actual} {row.probability_of_actual:.1%} '
        f'Loss {row.loss:.2f} Label quality {row.label_quality:.2f} File {row.file}'
    )


def overview(page) -> list[int]:
    """The image indices of the thumbnails, in order."""
    return [int(item.get_attribute('data-id')) for item in page.locator('#list li').all()]


def cell(page, actual, predicted):
    return page.locator('.confusion tbody tr').nth(actual).locator('td').nth(predicted)


def pixels(page, selector) -> np.ndarray:
    """The RGB pixels of an <img> or a <canvas> before scaling."""
    js = """async e => {
        if (e.decode) await e.decode();
        const [w, h] = [e.naturalWidth ?? e.width, e.naturalHeight ?? e.height];
        const context = Object.assign(document.createElement('canvas'), {width: w, height: h}).getContext('2d');
        context.drawImage(e, 0, 0);
        return [h, w, [...context.getImageData(0, 0, w, h).data]];
    }"""
    h, w, values = page.locator(selector).evaluate(js)
    return np.array(values).reshape(h, w, 4)[..., :3]


@in_browser
def test_numbers_of_the_run(page):
    assert text(page.locator('h1')) == 'run <1>'
    assert text(page.locator('.numbers')) == (
        'Test accuracy 41.67% course project (CIFAR-10): 90.33% Mistakes 7 of 12 images '
        'Best epoch 8 validation accuracy 51.00% Training accuracy 62.50% '
        'course project (CIFAR-10): 91.76% Learning rate 0.0125 at its highest Time 1,234 s 1,234 parameters'
    )
    expect(page.get_by_text('This test accuracy is optimistic')).to_be_visible()
    assert page.locator('#training img').evaluate_all('all => all.map(e => e.alt)') == list(page_module.PLOTS.values())
    expect(page.get_by_text('12 s images, 30 s sweep, 1,204 s training.')).to_be_visible()
    page.get_by_text('All epochs, as a table').click()
    assert text(page.locator('#training table')) == 'epoch valid loss lr 1 1.5 0.1 2 1.25 0.02'
    expect(page.get_by_alt_text('Augmented training images of the class a "quoted" class')).to_be_visible()
    assert page.locator('#samples figcaption').all_inner_texts() == ['a "quoted" class']
    page.get_by_text('config.json').click()
    assert text(page.locator('pre')) == '{"data": "</script> & <b>"}'


@in_browser
def test_confusion_matrix_and_scores(page, made):
    rows = page.locator('.confusion tbody tr')
    counts = [[int(td.inner_text() or 0) for td in row.locator('td').all()] for row in rows.all()]
    assert counts == made.interp.confusion_matrix().tolist()
    assert page.locator('.confusion th[scope=row]').all_inner_texts() == VOCAB
    assert page.locator('.confusion th[scope=col]').all_inner_texts() == VOCAB
    assert page.locator('#classes .note').inner_text() == 'The classes are <b>unbalanced</b>.'
    scores = zip(*precision_recall_fscore_support(made.interp.targs, made.interp.decoded, zero_division=0), strict=True)
    for row, name, (p, r, f1, n) in zip(page.locator('#classes tbody tr').all(), VOCAB, scores, strict=True):
        assert text(row) == f'{name} {p:.1%} {r:.1%} {f1:.1%} {n}'


@in_browser
def test_faithfulness_table(page):
    section = page.get_by_role('region', name='Are the maps faithful?')
    assert text(section.locator('caption')).startswith('8 random images')
    assert [text(row) for row in section.locator('tbody tr').all()] == [
        'layer1 not faithful here: no better than random pixels 0.10 ± 0.05 0.01 ± 0.06 0.00 ± 0.07 1.20 ± 0.08',
        'layer2 faithful 0.23 ± 0.05 0.20 ± 0.06 0.10 ± 0.07 0.90 ± 0.08',
        "layer3 not faithful here: no better than the image's centre 0.30 ± 0.05 0.31 ± 0.06 0.02 ± 0.07 0.80 ± 0.08",
        'layer4 faithful 0.50 ± 0.05 0.46 ± 0.06 0.40 ± 0.07 0.70 ± 0.08',
    ]


@in_browser
def test_the_verdict_on_the_maps_is_seen_on_a_phone(browser, made):
    with opened(browser, made.page, viewport={'width': 375, 'height': 812}) as page:
        for verdict in page.locator('#faithfulness td.verdict').all():
            box = verdict.bounding_box()
            assert 0 < box['x'] < box['x'] + box['width'] <= 375


@in_browser
def test_a_heading_sorts_the_classes(made, browser, tmp_path, monkeypatch):
    scores = {
        'class': VOCAB,
        'precision': [1.0, 0.5, 0.09],
        'recall': [0.1, 0.3, 0.2],
        'f1': 0.5,
        'images': [20, 1000, 3],
    }
    interp = interpret(made.images, ANSWERS)
    monkeypatch.setattr(interp, 'per_class', lambda: pd.DataFrame(scores))
    with opened(browser, write_report(interp, tmp_path)) as page:
        names = page.locator('.scores tbody th')
        assert names.all_inner_texts() == VOCAB
        for heading, order in [('precision', [RED, GREEN, BLUE]), ('precision', [BLUE, GREEN, RED]),
                               ('images', [RED, BLUE, GREEN]), ('class', [GREEN, BLUE, RED])]:  # fmt: skip
            page.get_by_role('button', name=heading, exact=True).click()
            assert names.all_inner_texts() == order
        expect(page.get_by_role('columnheader', name='class', exact=True)).to_have_attribute('aria-sort', 'ascending')
        expect(page.locator('[aria-sort]')).to_have_count(1)


@in_browser
def test_every_mistake_with_its_numbers_by_arrow_key(page, made):
    for place, row in enumerate(made.table.itertuples(), 1):
        expect(page.locator('#place')).to_have_text(f'{place} of 7')
        assert text(page.locator('#facts')) == described(row)
        page.keyboard.press('ArrowRight')
    expect(page.locator('#place')).to_have_text('1 of 7')
    page.keyboard.press('ArrowLeft')
    expect(page.locator('#place')).to_have_text('7 of 7')
    page.get_by_role('button', name='Previous').click()
    expect(page.locator('#place')).to_have_text('6 of 7')
    page.get_by_role('button', name='Next').click()
    assert text(page.locator('#facts')) == described(made.table.iloc[6])
    expect(page.locator('#list [aria-current]')).to_have_count(1)
    expect(page.locator('#list li').nth(6).locator('button')).to_have_attribute('aria-current', 'true')


@in_browser
def test_image_is_exact_and_enlarged_crisply(page, made):
    page.locator('#list button').nth(2).click()
    file = made.interp.dl.dataset.items[made.table.index[2]]
    np.testing.assert_array_equal(pixels(page, '#image'), np.array(Image.open(file)))
    np.testing.assert_array_equal(pixels(page, '#under'), np.array(Image.open(file)))
    assert page.locator('#image').bounding_box()['width'] > 300
    assert page.locator('#image').evaluate('e => getComputedStyle(e).imageRendering') == 'pixelated'
    expect(page.locator('#frame')).to_be_hidden()
    expect(page.get_by_text("The model's input")).to_be_visible()


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """The page of a run with photographs of 600x400, in a run folder beside them."""
    tmp = tmp_path_factory.mktemp('photographs')
    interp = interpret(write_images(tmp / 'my images #1', size=(400, 600)), ANSWERS)
    interp.dl.items = interp.dl.dataset.items
    return SimpleNamespace(interp=interp, page=write_report(interp, tmp / 'runs/a'))


@in_browser
def test_a_photograph_is_shown_whole_with_a_frame_around_the_part_that_the_model_saw(photographs, browser):
    with opened(browser, photographs.page) as page:
        assert pixels(page, '#image').shape == (256, 384, 3)
        assert page.locator('#image').evaluate('e => getComputedStyle(e).imageRendering') == 'auto'
        expect(page.get_by_text('The photograph; the model saw the part in the frame')).to_be_visible()
        image, frame = (page.locator(o).bounding_box() for o in ('#image', '#frame'))
        # height and width become 256 and 384, of which 224 remain, in the middle
        assert image['width'] / image['height'] == pytest.approx(1.5, abs=0.01)
        assert frame['width'] == pytest.approx(image['width'] * 224 / 384, abs=1)
        assert frame['height'] == pytest.approx(image['height'] * 224 / 256, abs=1)
        assert frame['x'] - image['x'] == pytest.approx(image['width'] * 80 / 384, abs=1)
        assert frame['y'] - image['y'] == pytest.approx(image['height'] * 16 / 256, abs=1)
        # beside it, the map lies over the part in the frame alone
        under, cam = (page.locator(o).bounding_box() for o in ('#under', '#map'))
        assert cam['width'] == pytest.approx(cam['height'], abs=1)
        assert under['width'] == pytest.approx(cam['width'] * 384 / 224, abs=1)
        assert cam['x'] - under['x'] == pytest.approx(under['width'] * 80 / 384, abs=1)
        assert cam['y'] - under['y'] == pytest.approx(under['height'] * 16 / 256, abs=1)
        assert pixels(page, '#map').shape == (128, 128, 3)


@in_browser
def test_a_click_on_the_image_opens_its_file(photographs, browser):
    file = photographs.interp.path(photographs.interp.mistakes(1).index[0])
    with opened(browser, photographs.page) as page:
        with page.context.expect_page() as another:
            page.locator('#original').click()
        another.value.wait_for_load_state()
        assert another.value.url.endswith(f'/my%20images%20%231/{file.relative_to(file.parents[2]).as_posix()}')
        size = another.value.evaluate('[document.images[0].naturalWidth, document.images[0].naturalHeight]')
        assert size == [600, 400]


@in_browser
def test_a_page_without_its_images_beside_it_goes_on(photographs, browser, tmp_path):
    with opened(browser, Path(shutil.copy(photographs.page, tmp_path))) as page:
        with page.context.expect_page():
            page.locator('#original').click()
        page.keyboard.press('ArrowRight')
        expect(page.locator('#place')).to_have_text('2 of 7')
        assert pixels(page, '#image').shape == (256, 384, 3)


def test_many_photographs_are_smaller(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, 'MANY', 6)
    html = write_report(photographs.interp, tmp_path).read_text()
    assert html.count('width="128" height="85"') == 7


@in_browser
@pytest.mark.parametrize('column', ['predicted', 'actual'])
def test_maps_are_those_of_grad_cam(page, made, column):
    palette = colormaps['inferno'](range(256), bytes=True)[:, :3].astype(int)
    page.locator('#list button').nth(1).click()
    i = made.table.index[1]
    label = (made.interp.decoded if column == 'predicted' else made.interp.targs)[i].item()
    page.get_by_role('group', name='Evidence for:').get_by_role('button', name=VOCAB[label]).click()
    maps = grad_cam(made.interp.learn.model, made.interp[i][0], label)
    stamps = ['not faithful here', '', 'not faithful here', '']
    captions = page.locator('#film figcaption').all()
    assert [text(o) for o in captions] == [f'{o} {stamp}'.strip() for o, stamp in zip(maps, stamps, strict=True)]
    for k, (layer, expected) in enumerate(maps.items()):
        page.locator('#layer').fill(str(k))
        expect(page.locator('#evidence')).to_contain_text(f'Evidence for {VOCAB[label]} in {layer}, ')
        stamped = {'layer1': 'no better than random pixels', 'layer3': "no better than the image's centre"}.get(layer)
        expect(page.locator('#evidence .stamp')).to_have_text([f'not faithful here: {stamped}'] if stamped else [])
        expect(page.locator('#film [aria-current]')).to_contain_text(layer)
        for canvas in ('#map', f'#film figure:nth-child({k + 1}) canvas'):
            levels = np.abs(pixels(page, canvas)[:, :, None] - palette).sum(-1).argmin(-1)
            np.testing.assert_allclose(levels, 255 * expected[0], atol=4)


@in_browser
def test_arrow_keys_in_the_slider_choose_the_layer(page):
    slider = page.get_by_role('slider', name='Layer')
    expect(slider).to_have_attribute('aria-valuetext', 'layer4')
    slider.focus()
    page.keyboard.press('ArrowLeft')
    expect(slider).to_have_attribute('aria-valuetext', "layer3, not faithful here: no better than the image's centre")
    expect(page.locator('#evidence')).to_contain_text('in layer3, ')
    expect(page.locator('#place')).to_have_text('1 of 7')


@in_browser
def test_the_map_can_be_faded(page):
    slider = page.get_by_role('slider', name='Opacity of the map')
    for percent in 60, 0, 100:
        slider.fill(str(percent))
        assert float(page.locator('#map').evaluate('e => getComputedStyle(e).opacity')) == percent / 100


@in_browser
def test_the_most_faithful_layer_is_shown_first(made, browser, tmp_path):
    interp = interpret(made.images, ANSWERS)
    interp.faithfulness = FAITHFULNESS.assign(score=[0.9, 0.4, 0.8, 0.3])
    with opened(browser, write_report(interp, tmp_path)) as page:
        expect(page.locator('#evidence')).to_contain_text('in layer2, ')  # 0.9 and 0.8 are not faithful


@in_browser
def test_a_cell_of_the_matrix_filters(page, made):
    everything = overview(page)
    status, button = page.get_by_role('status'), cell(page, 0, 1).get_by_role('button')
    assert everything == made.table.index.tolist()
    expect(status).to_have_text('7 mistakes')
    expect(button).to_have_attribute('aria-label', f'{BLUE} predicted as {GREEN}: 3')

    button.click()
    assert sorted(overview(page)) == [1, 2, 3]
    expect(status).to_have_text(f'3 mistakes: {BLUE} predicted as {GREEN}')
    expect(page.locator('#place')).to_have_text('1 of 3')
    expect(button).to_have_attribute('aria-pressed', 'true')
    expect(button).not_to_have_css(
        'background-color', 'rgba(0, 0, 0, 0)'
    )  # white text on the cell's own tint lacks contrast
    page.keyboard.press('ArrowRight')  # from the cell, too
    expect(page.locator('#place')).to_have_text('2 of 3')

    button.click()
    assert overview(page) == everything
    expect(button).to_have_attribute('aria-pressed', 'false')

    button.click()
    cell(page, 2, 0).get_by_role('button').click()
    assert overview(page) == [10]
    expect(status).to_have_text(f'1 mistake: {RED} predicted as {BLUE}')
    page.get_by_role('button', name='All mistakes').click()
    assert overview(page) == everything
    expect(page.get_by_role('button', name='All mistakes')).to_be_hidden()


@in_browser
def test_sorting(page, made):
    def by(option):
        page.get_by_label('Sort by').select_option(option)
        assert text(page.locator('#facts')) == described(made.table.loc[overview(page)[0]])
        return overview(page)

    doubt = made.table.sort_values('label_quality').index.tolist()
    confidence = made.table.sort_values('probability', ascending=False).index.tolist()
    assert doubt != confidence != made.table.index.tolist()
    assert by('most doubtful label') == doubt
    assert by('most confident') == confidence
    assert by('highest loss') == made.table.index.tolist()


@in_browser
def test_thumbnails_by_keyboard(page):
    expect(page.locator('#list button[tabindex="0"]')).to_have_count(1)
    page.locator('#list button[tabindex="0"]').focus()
    page.keyboard.press('ArrowRight')
    focused = page.locator('#list button:focus')
    expect(focused).to_have_attribute('aria-current', 'true')
    assert focused.evaluate('e => getComputedStyle(e).outlineStyle') == 'solid'


@in_browser
def test_readable_without_javascript(browser, made):
    with opened(browser, made.page, java_script_enabled=False) as page:
        assert [text(item) for item in page.locator('#list li').all()] == [
            described(o) for o in made.table.itertuples()
        ]
        expect(page.locator('#list img').first).to_be_visible()
        expect(page.locator('.confusion')).to_be_visible()
        assert page.locator('button:visible, input:visible, select:visible').count() == 0


@in_browser
def test_names_are_text_everywhere(page):
    cell(page, 0, 1).get_by_role('button').click()
    for i in (1, 2, 3):
        page.locator(f'#list [data-id="{i}"] button').click()
        assert text(page.locator('#facts .file')) == f'File {FILES[i]}'
        expect(page.locator('#evidence')).to_contain_text(f'Evidence for {GREEN} in')
    assert page.locator('script').count() == 3
    assert page.locator('img[src="x"]').count() == 0


@in_browser
@pytest.mark.parametrize('scripted', [True, False])
def test_phone_scrolls_in_one_direction(browser, made, scripted):
    with opened(browser, made.page, viewport={'width': 375, 'height': 812}, java_script_enabled=scripted) as page:
        for summary in page.locator('summary').all():
            summary.click()
        page.mouse.wheel(400, 0)
        page.wait_for_timeout(100)
        assert page.locator('h1').bounding_box()['x'] == 16
        assert page.evaluate('document.documentElement.scrollWidth') == 375


@in_browser
def test_dark_mode(browser, made):
    def colours(scheme):
        with opened(browser, made.page, color_scheme=scheme) as page:
            style = page.locator('body').evaluate(
                'e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]'
            )
            return [sum(map(int, colour[4:-1].split(','))) for colour in style]

    page, ink = colours('light')
    assert page > ink + 500
    page, ink = colours('dark')
    assert ink > page + 500


@in_browser
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_axe_finds_nothing_serious(browser, made, scheme):
    with opened(browser, made.page, color_scheme=scheme) as page:
        cell(page, 0, 1).get_by_role('button').click()
        page.get_by_role('button', name='Ambiguous').click()
        page.get_by_role('button', name='Label wrong').click()
        expect(page.locator('#chooser')).to_be_visible()
        for summary in page.locator('summary').all():
            summary.click()
        found = Axe().run(page)
        serious = [v for v in found.response['violations'] if v['impact'] in ('serious', 'critical')]
        assert serious == [], found.generate_report()


@in_browser
def test_a_page_without_a_run_folder(learner, browser, tmp_path):
    learn = learner()
    interp = GradCAMInterpretation.from_learner(learn)
    path = write_report(interp, tmp_path / 'new', layers=['layer2'])
    assert [f.name for f in path.parent.iterdir()] == ['report.html']
    right = (interp.decoded == interp.targs).float().mean()
    with opened(browser, path) as page:
        assert (
            text(page.locator('.numbers')) == f'Accuracy {right:.2%} Mistakes {len(interp.mistakes(None))} of 12 images'
        )
        assert text(page.locator('nav')) == 'Mistakes Classes'
        assert page.locator('#film figcaption').all_inner_texts() == ['layer2']


@in_browser
def test_no_mistakes(made, browser, tmp_path):
    with opened(browser, write_report(interpret(made.images, [i // 4 for i in range(12)]), tmp_path)) as page:
        expect(page.get_by_text('No mistakes: all 12 images are right.')).to_be_visible()
        assert page.locator('.confusion tbody td').all_inner_texts() == ['4', '', '', '', '4', '', '', '', '4']
        assert page.locator('button').count() == page.locator('.scores thead button').count() == 5


def shrunk(made, tmp_path, monkeypatch, what):
    """Reduce the size limit until some of the seven mistakes have no image or map; return the page and the count."""
    monkeypatch.setattr(page_module, 'FOR_MAPS', 0)
    monkeypatch.setattr(page_module, 'REST', 2000)
    for limit in range(write_report(made.interp, tmp_path).stat().st_size + 2000, 0, -400):
        monkeypatch.setattr(page_module, 'LIMIT', limit)
        page = write_report(made.interp, tmp_path).read_text()
        assert len(page.encode()) < limit
        maps = json.loads(page.split('id="data">')[1].split('</script>')[0])['maps']
        count = {'image': len(maps), 'map': sum(map(bool, maps))}[what]
        if count < 7:
            return tmp_path / 'report.html', count


@in_browser
def test_mistakes_that_do_not_fit_are_left_out_and_counted(made, browser, tmp_path, monkeypatch):
    path, count = shrunk(made, tmp_path, monkeypatch, 'image')
    with opened(browser, path) as page:
        assert 0 < count < 7
        assert overview(page) == made.table.index[:count].tolist()
        note = f'This page holds the {count} mistakes with the highest loss. The other {7 - count} are left out'
        expect(page.get_by_text(note)).to_be_visible()


@in_browser
def test_if_not_all_maps_fit_the_worst_mistakes_have_maps(made, browser, tmp_path, monkeypatch):
    path, count = shrunk(made, tmp_path, monkeypatch, 'map')
    assert 0 < count < 7
    with opened(browser, path) as page:
        map_and_film, note = page.locator('#map, #film, #evidence-for'), page.locator('#mapless')
        for i in range(7):
            page.locator('#list button').nth(i).click()
            assert text(page.locator('#facts')) == described(made.table.iloc[i])
            assert [o.is_visible() for o in map_and_film.all()] == [i < count] * 3
            assert note.is_visible() == (i >= count)
        expect(note).to_have_text(f'Only the {count} mistakes with the highest loss have Grad-CAM maps.')


@in_browser
def test_a_model_without_maps_has_a_page(made, browser, tmp_path):
    interp = interpret(made.images, ANSWERS)
    interp.learn.model = resnet18(num_classes=3)  # its last layers are 1x1 for 16x16 images
    with pytest.raises(NoMaps, match="'layer4' is 1x1"):
        write_report(interp, tmp_path, layers=['layer4'])
    with opened(browser, write_report(interp, tmp_path)) as page:
        expect(page.get_by_text('No layer of this model has a Grad-CAM map.')).to_be_visible()
        expect(page.locator('#film')).to_be_hidden()
        page.keyboard.press('ArrowRight')
        assert text(page.locator('#facts')) == described(made.table.iloc[1])
        page.get_by_role('button', name='Ambiguous').click()
        expect(page.locator('#judged')).to_have_text('1')


def test_maps_are_made_small(tmp_path):
    images = write_images(tmp_path / 'images', size=(160, 200))
    html = write_report(interpret(images, ANSWERS), tmp_path / 'run').read_text()
    assert html.count('width="200" height="160"') == 7
    data = json.loads(html.split('id="data">')[1].split('</script>')[0])
    assert [(o['layer'], o['height'], o['width']) for o in data['maps'][0]] == [
        ('layer1', 32, 32), ('layer2', 32, 32), ('layer3', 32, 32), ('layer4', 28, 28),
    ]  # fmt: skip


def test_a_page_that_fails_leaves_the_old_one(made, tmp_path, monkeypatch):
    path = write_report(made.interp, tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(page_module, 'grad_cam', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(made.interp, tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@in_browser
@pytest.mark.slow
def test_ten_thousand_images_and_fifteen_hundred_mistakes(browser, tmp_path):
    images = write_images(tmp_path / 'images', test=500, size=(32, 32))  # of noise, which compresses worst
    dls = tiny_dls(images)
    decoded = torch.arange(10_000) % 3
    targs = torch.where(torch.arange(10_000) < 1_500, (decoded + 1) % 3, decoded)
    preds = torch.full((10_000, 3), 0.1).scatter(1, decoded[:, None], 0.8)
    interp = GradCAMInterpretation(Learner(dls, tiny_net(3, 2, 0.0)), dls[2], preds, targs, torch.rand(10_000))
    interp.dl.items = [f'test/{i}.png' for i in range(10_000)]
    path = write_report(interp, tmp_path / 'run')
    print(f'{path.stat().st_size:,} bytes')
    assert path.stat().st_size < 25_000_000
    with opened(browser, path) as page:
        expect(page.locator('#place')).to_have_text('1 of 1500')
        step = """() => { const start = performance.now(); document.getElementById('next').click();
                          document.body.offsetHeight; return performance.now() - start; }"""
        assert np.median([page.evaluate(step) for _ in range(20)]) < 100  # milliseconds
