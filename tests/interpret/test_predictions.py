import pandas as pd
import pytest
from PIL import Image

from interpret.predictions import write_predictions
from predict import predict


def test_images_without_labels_are_predicted_as_by_predict_py(run, folder, capsys):
    files = sorted((folder / 'test').glob('*/*'))
    (folder / 'test/notes.txt').write_text('no image')
    Image.new('RGB', (64, 40), 'blue').save(folder / 'test/larger.png')
    files += [folder / 'test/notes.txt', folder / 'test/larger.png']
    file = write_predictions(run, folder, files)
    assert file == run / 'predictions.csv'
    table = pd.read_csv(file)
    assert list(table) == ['file', 'class', 'probability', 'error']
    assert list(table.file) == [f.relative_to(folder).as_posix() for f in files]
    classes, expected = predict(str(run), [str(f) for f in files])
    for row, f in zip(table.itertuples(), files, strict=True):
        if f.suffix == '.txt':
            assert row.error == expected[f]
            assert pd.isna(row.probability)
        else:
            assert row.probability == pytest.approx(max(expected[f]))
            assert classes.index(row._2) == expected[f].index(max(expected[f]))  # `class` is a keyword
            assert pd.isna(row.error)
    out = capsys.readouterr().out
    assert f'images without labels: 14, 1 of them unusable; predicted in {file}\n' in out
