// Without this script the page lists every mistake. The script turns the list into thumbnails, beside a view of one
// mistake at a time.
{
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId('data').textContent);
  const list = byId('list');
  const items = [...list.children]; // in the order of `data.maps`
  const cells = [...document.querySelectorAll('.confusion [data-actual]')].map(withButton);
  const verdicts = new Verdicts(data.key);
  const views = new Views(data);
  const bar = new ActionBar(verdicts, data.classes, { judged: goOn, undone: goBack });

  let pair = null; // the chosen cell of the confusion matrix
  let shown = []; // the items of that cell, sorted; with the filter only those without a verdict
  let current = null; // the item in view

  // Overview and detail

  function withButton(element) {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...element.childNodes);
    element.append(button);
    return button;
  }

  // List the items that belong, and show `item`, or the first if it isn't among them.
  function arrange(item) {
    const { actual, predicted } = pair?.parentElement.dataset ?? {};
    const belongs = ({ dataset: o }) =>
      (!pair || (o.actual === actual && o.predicted === predicted)) && !(byId('unjudged').checked && o.verdict);
    shown = data.orders[byId('sort').value].map((i) => items[i]).filter(belongs);
    list.replaceChildren(...shown);
    for (const cell of cells) cell.setAttribute('aria-pressed', cell === pair);
    byId('all').hidden = !pair;
    const mistakes = `${shown.length.toLocaleString('en')} ${shown.length === 1 ? 'mistake' : 'mistakes'}`;
    const which = byId('unjudged').checked ? ' not judged yet' : '';
    byId('status').textContent = mistakes + which + (pair ? `: ${actual} predicted as ${predicted}` : '');
    byId('detail').hidden = !shown.length;
    if (shown.length) show(shown.includes(item) ? item : shown[0]);
    else bar.show(null);
    count();
  }

  function show(item) {
    const [before, now] = [current, item].map((o) => o?.firstElementChild);
    before?.removeAttribute('aria-current');
    if (before) before.tabIndex = -1;
    now.setAttribute('aria-current', 'true');
    now.tabIndex = 0; // one tab stop for all thumbnails
    current = item;
    // not `scrollIntoView`, which would scroll the page too
    const within = (low, value, high) => Math.max(low, Math.min(value, high));
    list.scrollTop = within(item.offsetTop + item.offsetHeight - list.clientHeight, list.scrollTop, item.offsetTop);
    list.scrollLeft = within(item.offsetLeft + item.offsetWidth - list.clientWidth, list.scrollLeft, item.offsetLeft);

    byId('place').textContent = `${shown.indexOf(item) + 1} of ${shown.length}`;
    byId('facts').replaceChildren(...item.querySelector('.facts').cloneNode(true).childNodes);
    views.show(item, items.indexOf(item));
    bar.show(item);
  }

  function step(by) {
    const inList = list.contains(document.activeElement);
    show(shown[(shown.indexOf(current) + by + shown.length) % shown.length]);
    if (inList) current.firstElementChild.focus({ preventScroll: true });
  }

  // Verdicts

  // Mark the judged item and show the next one without a verdict. One whose verdict was taken back stays in view.
  function goOn() {
    mark(current);
    const at = shown.indexOf(current);
    const others = [...shown.slice(at + 1), ...shown.slice(0, at)];
    const next = current.dataset.verdict ? others.find((item) => !item.dataset.verdict) : current;
    if (byId('unjudged').checked) arrange(next);
    else show(next ?? current);
    count();
  }

  function goBack(id) {
    const item = items.find((o) => o.dataset.id === id);
    mark(item);
    if (pair !== cellOf(item)) pair = null;
    arrange(item);
  }

  function cellOf({ dataset: o }) {
    return cells.find(({ parentElement: { dataset: c } }) => c.actual === o.actual && c.predicted === o.predicted);
  }

  function mark(item) {
    item.dataset.verdict = verdicts.of(item.dataset.id).verdict;
  }

  function count() {
    byId('judged').textContent = items.filter((o) => o.dataset.verdict).length;
  }

  function download() {
    const rows = items
      .map(({ dataset: o }) => ({ ...o, ...verdicts.of(o.id), split: data.split, label_quality: o.quality }))
      .filter(({ verdict, note }) => verdict || note)
      .map((row) => ({ ...row, right_class: row.right }));
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([toCsv(rows)], { type: 'text/csv' }));
    link.download = 'verdicts.csv';
    link.click();
  }

  // Take the verdicts of a file over, for the images of this page.
  async function upload() {
    const rows = fromCsv(await byId('file').files[0].text());
    byId('file').value = ''; // so that the same file can be chosen again
    const known = ['', ...bar.buttons.map((button) => button.dataset.verdict)];
    const byFile = new Map(items.map((item) => [item.dataset.file, item]));
    const usable = rows.filter(
      ({ file, split, actual, verdict, right_class: right }) =>
        byFile.get(file)?.dataset.actual === actual && [undefined, data.split].includes(split) &&
        known.includes(verdict) && (!right || (verdict === 'label wrong' && data.classes.includes(right))));
    for (const { file, verdict, right_class: right = '', note = '' } of usable) {
      verdicts.set(byFile.get(file).dataset.id, { verdict, right, note });
      mark(byFile.get(file));
    }
    arrange(current);
    const others = rows.length - usable.length;
    byId('imported').textContent = rows.length
      ? `${usable.length} of ${rows.length} rows imported.${others ? ` ${others} are of other images, or have no valid verdict.` : ''}`
      : 'This is no file of exported verdicts.';
  }

  // Events

  function on(element, event, handler) {
    element.addEventListener(event, handler);
  }

  for (const cell of cells) {
    const { actual, predicted } = cell.parentElement.dataset;
    cell.title = `${actual} predicted as ${predicted}: ${cell.textContent}`;
    cell.setAttribute('aria-label', cell.title);
    on(cell, 'click', () => { pair = pair === cell ? null : cell; arrange(); });
  }
  for (const item of items) {
    const button = withButton(item);
    button.tabIndex = -1;
    on(button, 'click', () => show(item));
    mark(item);
  }
  on(byId('all'), 'click', () => { pair = null; arrange(); byId('sort').focus(); });
  on(byId('sort'), 'change', () => arrange());
  on(byId('unjudged'), 'change', () => arrange(current));
  on(byId('previous'), 'click', () => step(-1));
  on(byId('next'), 'click', () => step(1));
  on(byId('export'), 'click', download);
  on(byId('import'), 'click', () => byId('file').click());
  on(byId('file'), 'change', upload);
  on(document, 'keydown', (event) => {
    const { key, target } = event;
    if (event.altKey || event.ctrlKey || event.metaKey || target.matches('input:not([type]), textarea')) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (!by) {
      if (!event.repeat && bar.press(key)) event.preventDefault();
    } else if (shown.length && !target.matches('[type=range], select, pre, [role=region]')) {
      event.preventDefault();
      step(by);
      if (!byId('review').contains(document.activeElement)) byId('detail').focus();
    }
  });

  document.documentElement.classList.add('scripted');
  arrange();
}
