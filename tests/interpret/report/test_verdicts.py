"""Verdicts on the review page in a real browser: given by key or click, kept, exported and imported."""

import csv
from types import SimpleNamespace

import pytest
from pages import ANSWERS, BLUE, FILES, GREEN, RED, in_browser, interpret, opened
from playwright.sync_api import expect
from tiny import write_images

from interpret.report.page import write_report

CIFAR10 = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
VERDICTS = ['Model wrong', 'Label wrong', 'Ambiguous', 'None of the classes']
COLUMNS = [
    'file',
    'split',
    'actual',
    'predicted',
    'verdict',
    'right_class',
    'note',
    'probability',
    'loss',
    'label_quality',
]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """The page of a run with seven mistakes, of images 1, 2, 3, 5, 6, 10 and 11."""
    tmp = tmp_path_factory.mktemp('verdicts')
    images = write_images(tmp / 'images')
    interp = interpret(images, ANSWERS)
    return SimpleNamespace(
        images=images, interp=interp, table=interp.mistakes(None), page=write_report(interp, tmp / 'run')
    )


@pytest.fixture
def page(browser, made):
    with opened(browser, made.page) as page:
        yield page


def button(page, name):
    return page.get_by_role('button', name=name, exact=True)


def choose(page, i):
    page.locator(f'#list [data-id="{i}"] button').click()


def current(page) -> int:
    return int(page.locator('#list li:has([aria-current])').get_attribute('data-id'))


def marks(page) -> dict[int, str]:
    """The verdicts, by image."""
    items = page.locator('#list li').all()
    given = {int(item.get_attribute('data-id')): item.get_attribute('data-verdict') for item in items}
    return {i: verdict for i, verdict in given.items() if verdict}


def press(page, keys) -> None:
    for key in keys:
        page.keyboard.press(key)


def exported(page, tmp_path) -> list[list[str]]:
    with page.expect_download() as download:
        page.get_by_role('button', name='Export verdicts').click()
    download.value.save_as(tmp_path / 'verdicts.csv')
    with (tmp_path / 'verdicts.csv').open(newline='', encoding='utf-8') as f:
        return list(csv.reader(f))


def import_file(page, file) -> str:
    """Import `file`; return what the page says."""
    with page.expect_file_chooser() as chooser:
        button(page, 'Import').click()
    chooser.value.set_files(file)
    expect(page.locator('#imported')).not_to_be_empty()
    return page.locator('#imported').inner_text()


@in_browser
def test_a_verdict_takes_one_key_and_the_next_unjudged_image_follows(page, made):
    order = made.table.index.tolist()
    choose(page, order[1])
    press(page, '3')
    assert current(page) == order[2]
    choose(page, order[0])
    press(page, '1')
    assert current(page) == order[2]  # the second has a verdict
    choose(page, order[6])
    press(page, '4')
    assert current(page) == order[2]  # from the start again
    assert marks(page) == {order[0]: 'model wrong', order[1]: 'ambiguous', order[6]: 'none of the classes'}
    press(page, '1111')
    expect(page.locator('#judged')).to_have_text('7')
    assert current(page) == order[5]  # the last one: none follows


@in_browser
def test_label_wrong_takes_at_most_four_keys_with_the_right_class(made, browser, tmp_path):
    interp = interpret(made.images, ANSWERS, CIFAR10)
    with opened(browser, write_report(interp, tmp_path / 'run')) as page:
        counts = {}
        mistake = interp.mistakes(1).iloc[0]
        for right in CIFAR10:
            if right == mistake.actual:
                continue
            for letters in range(len(right)):
                keys = ['2', *right[:letters], 'Enter']
                choose(page, interp.mistakes(1).index[0])
                press(page, keys[:-1])
                if page.locator('#choices button').first.inner_text() == right:
                    break
                press(page, ['Escape'])
            press(page, keys[-1:])
            counts[right] = len(keys)
            choose(page, interp.mistakes(1).index[0])
            expect(button(page, f'Label wrong: {right}')).to_have_attribute('aria-pressed', 'true')
            press(page, '2')  # takes it back
            expect(page.locator('#judged')).to_have_text('0')
        assert len(counts) == 9
        assert max(counts.values()) <= 4
        assert counts[mistake.predicted] == 2  # it is offered first


@in_browser
def test_the_right_class_is_offered_by_its_letters(page, made):
    choose(page, 2)  # actual: blue, predicted: green
    button(page, 'Label wrong').click()
    choices = page.locator('#choices button')
    assert choices.all_inner_texts() == [GREEN, RED]
    press(page, 'rot')
    assert choices.all_inner_texts() == [RED]  # contains it
    press(page, ['Backspace', 'Backspace', 'Backspace', 'R'])
    page.keyboard.insert_text('ö')
    assert choices.all_inner_texts() == [RED]
    press(page, 'x')
    expect(choices).to_have_count(0)
    press(page, ['Enter'])
    expect(page.get_by_label('Right class')).to_be_visible()
    button(page, 'Cancel').click()
    expect(page.get_by_label('Right class')).to_be_hidden()
    assert marks(page) == {}
    press(page, '2')
    choices.nth(1).click()
    assert marks(page) == {2: 'label wrong'}


@in_browser
def test_undo_takes_verdicts_back_one_by_one(page, made):
    order = made.table.index.tolist()
    expect(button(page, 'Undo')).to_be_disabled()
    press(page, ['1', '3', '2', 'Enter'])
    choose(page, order[0])
    press(page, '4')
    assert marks(page) == {order[0]: 'none of the classes', order[1]: 'ambiguous', order[2]: 'label wrong'}
    press(page, 'u')
    assert marks(page)[order[0]] == 'model wrong'
    assert current(page) == order[0]
    button(page, 'Undo').click()
    assert (marks(page), current(page)) == ({order[0]: 'model wrong', order[1]: 'ambiguous'}, order[2])
    press(page, 'uuu')  # one more than there are
    assert (marks(page), current(page)) == ({}, order[0])
    expect(button(page, 'Undo')).to_be_disabled()


@in_browser
def test_the_filter_shows_what_is_not_judged_yet(page, made):
    order = made.table.index.tolist()
    press(page, '1')
    page.get_by_label('not judged yet').check()
    expect(page.get_by_text('6 mistakes not judged yet')).to_be_visible()
    assert (page.locator('#list li').count(), current(page)) == (6, order[1])
    press(page, ['ArrowRight', '3'])
    assert (page.locator('#list li').count(), current(page)) == (5, order[3])
    press(page, 'u')
    assert (page.locator('#list li').count(), current(page)) == (6, order[2])
    press(page, '111111')
    expect(page.get_by_text('0 mistakes not judged yet')).to_be_visible()
    expect(page.locator('#detail')).to_be_hidden()
    expect(button(page, 'Model wrong')).to_be_disabled()
    press(page, '1n')
    press(page, 'u')
    expect(page.get_by_text('1 mistake not judged yet')).to_be_visible()
    page.get_by_label('not judged yet').uncheck()
    assert page.locator('#list li').count() == 7


@in_browser
@pytest.mark.parametrize('focus', [
    '#list button', '#original', '#sort', '#layer', '#opacity', '#unjudged', '#export', '[data-why=actual]',
    '.confusion button', '.scores button', 'nav a', '.matrix', '',
])  # fmt: skip
def test_keys_judge_wherever_the_focus_is(page, made, focus):
    if focus:
        page.locator(focus).first.focus()
    press(page, '3')
    assert list(marks(page).values()) == ['ambiguous']
    press(page, 'u')
    assert marks(page) == {}


@in_browser
def test_keys_are_letters_in_a_note(page, made, tmp_path):
    first, second = made.table.index[:2]
    press(page, [*'n12u=', 'ArrowLeft', 'Enter', '1'])
    assert marks(page) == {first: 'model wrong'}
    assert current(page) == second
    expect(page.get_by_label('Note')).to_have_value('')
    choose(page, first)
    expect(page.get_by_label('Note')).to_have_value('12u=')
    page.reload()
    expect(page.get_by_label('Note')).to_have_value('12u=')


@in_browser
def test_verdicts_are_kept_and_exported(page, made, tmp_path):
    def judge(i, verdict):
        choose(page, i)
        page.get_by_role('button', name=verdict).click()

    judge(1, 'Model wrong')
    judge(10, 'Ambiguous')
    judge(6, 'Ambiguous')
    judge(6, 'Ambiguous')  # a second click takes it back
    judge(3, 'None of the classes')
    judge(2, 'Label wrong')
    page.locator('#choices').get_by_text(RED).click()
    choose(page, 5)
    page.get_by_label('Note').fill('=1, "see"')  # a note alone

    page.reload()
    expect(page.get_by_role('button', name='Export verdicts (4)')).to_be_visible()
    choose(page, 2)
    expect(button(page, f'Label wrong: {RED}')).to_have_attribute('aria-pressed', 'true')
    expect(button(page, 'Model wrong')).to_have_attribute('aria-pressed', 'false')
    header, *rows = exported(page, tmp_path)
    assert header == COLUMNS
    assert {tuple(row[:7]) for row in rows} == {
        (FILES[1], 'test', "'" + BLUE, GREEN, 'model wrong', '', ''),
        (FILES[2], 'test', "'" + BLUE, GREEN, 'label wrong', RED, ''),
        ("'" + FILES[3], 'test', "'" + BLUE, GREEN, 'none of the classes', '', ''),
        (FILES[10], 'test', RED, "'" + BLUE, 'ambiguous', '', ''),
        (FILES[5], 'test', GREEN, "'" + BLUE, '', '', '\'=1, "see"'),
    }
    by_file = made.table.set_index('file')
    for file, *_, probability, loss, quality in rows:
        expected = by_file.loc[file.removeprefix("'"), ['probability', 'loss', 'label_quality']].tolist()
        assert [float(o) for o in (probability, loss, quality)] == pytest.approx(expected, rel=1e-5)


@in_browser
@pytest.mark.parametrize('saved_by', ['the page', 'a spreadsheet'])
def test_an_exported_file_is_imported(page, made, browser, tmp_path, saved_by):
    choose(page, 2)
    press(page, ['2', 'r', 'Enter'])
    choose(page, 3)
    page.get_by_label('Note').fill('="two", lines')
    press(page, ['Enter', '4'])
    rows = exported(page, tmp_path)
    if saved_by == 'a spreadsheet':
        with (tmp_path / 'verdicts.csv').open('w', newline='', encoding='utf-8-sig') as f:
            csv.writer(f, delimiter=';').writerows(rows)
    with opened(browser, made.page) as other:
        assert marks(other) == {}  # the store of another visitor
        assert import_file(other, tmp_path / 'verdicts.csv') == '2 of 2 rows imported.'
        assert marks(other) == {2: 'label wrong', 3: 'none of the classes'}
        assert exported(other, tmp_path) == rows


@in_browser
def test_rows_that_do_not_belong_to_the_page_are_counted(page, made, tmp_path):
    press(page, '1')
    judged = marks(page)
    row = dict.fromkeys(COLUMNS, '') | {'file': FILES[2], 'split': 'test', 'actual': BLUE, 'verdict': 'ambiguous'}
    others = [
        {'file': 'test/none.png'}, {'split': 'train'}, {'actual': RED}, {'verdict': 'wrong'}, {'right_class': RED},
        {'verdict': 'label wrong', 'right_class': 'x'},
    ]  # fmt: skip
    rows = [row, *(row | other for other in others)]
    with (tmp_path / 'a.csv').open('w', newline='', encoding='utf-8') as f:
        writer = csv.DictWriter(f, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    said = import_file(page, tmp_path / 'a.csv')
    assert said == '1 of 7 rows imported. 6 are of other images, or have no valid verdict.'
    assert marks(page) == judged | {2: 'ambiguous'}


@in_browser
@pytest.mark.parametrize('content', [b'', b'name,verdict\n1,2\n', b'\xff\x00\x01'])
def test_another_file_is_not_imported(page, made, tmp_path, content):
    (tmp_path / 'a.csv').write_bytes(content)
    assert import_file(page, tmp_path / 'a.csv') == 'This is no file of exported verdicts.'
    assert marks(page) == {}


@in_browser
def test_verdicts_of_an_earlier_version_are_read(page, made, tmp_path):
    page.evaluate('localStorage.setItem(\'verdicts \' + JSON.parse(data.textContent).key, \'{"2": "ambiguous"}\')')
    page.reload()
    assert marks(page) == {2: 'ambiguous'}
    header, *rows = ['file', 'actual', 'predicted', 'verdict'], [FILES[1], "'" + BLUE, GREEN, 'model wrong']
    with (tmp_path / 'a.csv').open('w', newline='', encoding='utf-8') as f:
        csv.writer(f, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    assert import_file(page, tmp_path / 'a.csv') == '1 of 1 rows imported.'
    assert marks(page) == {1: 'model wrong', 2: 'ambiguous'}


@in_browser
def test_verdicts_belong_to_their_run(page, made, browser, tmp_path):
    button(page, 'Ambiguous').click()
    other = write_report(interpret(made.images, ANSWERS), tmp_path / 'another run')
    again = write_report(made.interp, tmp_path / made.page.parent.name)
    count = page.locator('#judged')
    for path, judged in ((other, '0'), (again, '1')):  # pages of local files share one store
        page.context.new_page().goto(path.as_uri())
        expect(page.context.pages[-1].locator('#judged')).to_have_text(judged)
    expect(count).to_have_text('1')


@in_browser
def test_a_browser_without_storage_is_reported(made, browser, tmp_path):
    with opened(browser, made.page) as page:
        page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied'); }})")
        page.reload()
        expect(page.locator('#unsaved')).to_be_hidden()
        button(page, 'Ambiguous').click()
        expect(page.get_by_text('This browser cannot store the verdicts')).to_be_visible()
        assert exported(page, tmp_path)[1][4] == 'ambiguous'


@in_browser
@pytest.mark.parametrize('size', [(1366, 768), (375, 812)])
def test_the_action_bar_stays_in_sight(made, browser, size):
    with opened(browser, made.page, viewport=dict(zip(('width', 'height'), size, strict=True))) as page:
        for place in 'header', '#list', '#film', '#evidence-for':
            page.locator(place).scroll_into_view_if_needed()
            for name in VERDICTS:
                box = button(page, name).bounding_box()
                assert 0 <= box['x'] < box['x'] + box['width'] <= size[0]
                assert 0 < box['y'] < box['y'] + box['height'] <= size[1]
        button(page, 'Label wrong').click()
        for element in page.get_by_label('Right class'), page.locator('#choices button').first, button(page, 'Undo'):
            box = element.bounding_box()
            assert 0 <= box['x'] < box['x'] + box['width'] <= size[0]
            assert 0 < box['y'] < box['y'] + box['height'] <= size[1]
