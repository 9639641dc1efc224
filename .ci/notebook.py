"""Run the notebook and save it with its outputs, reduced in size and without noise in the diff."""

import base64
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from PIL import Image


def smaller(picture: str) -> str:
    """Reduce a base64 PNG to 256 colours: a third of the bytes, with no visible difference."""
    file = BytesIO()
    Image.open(BytesIO(base64.b64decode(picture))).convert('RGB').quantize(256).save(file, 'png', optimize=True)
    return base64.b64encode(file.getvalue()).decode()


file = Path(__file__).parents[1] / 'notebooks/review_mistakes.ipynb'
notebook = nbformat.read(file, 4)
with TemporaryDirectory() as folder:  # for its run folder
    NotebookClient(notebook, timeout=None, record_timing=False, resources={'metadata': {'path': folder}}).execute()
notebook.metadata = {'kernelspec': {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'}}
for cell in notebook.cells:
    if cell.cell_type == 'code':
        cell.outputs = [o for o in cell.outputs if o.get('name') != 'stderr']  # libraries' warnings, with local paths
        # finished progress bars leave an empty output, and the first also a style sheet
        htmls = [o.get('data', {}).get('text/html', 'none').strip() for o in cell.outputs]
        noise = [html in ('', '<div></div>') or html.startswith('<style>') for html in htmls]
        cell.outputs = [o for o, is_noise in zip(cell.outputs, noise, strict=True) if not is_noise]
        for output in cell.outputs:
            output.get('data', {}).pop('text/markdown', None)  # the HTML output has it, too
            if 'image/png' in output.get('data', {}):
                output.data['image/png'] = smaller(output.data['image/png'])
nbformat.validate(notebook)
nbformat.write(notebook, file)
print(f'{file.name}: {file.stat().st_size / 1e3:.0f} kB')
