// Without this script the page lists every mistake. The script turns the list into thumbnails, beside a view of one
// mistake at a time.
{
  const byId = (id) => document.getElementById(id);
  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const { key, maps, orders, stamps, colours } = JSON.parse(byId('data').textContent);
  const palette = bytes(colours); // 256 x RGBA
  const list = byId('list');
  const items = [...list.children]; // in the order of `maps`
  const cells = [...document.querySelectorAll('.confusion [data-actual]')].map(withButton);
  const reasons = [...document.querySelectorAll('[data-why]')];
  const judgements = [...document.querySelectorAll('button[data-verdict]')];
  const verdicts = new Verdicts(key);

  let pair = null; // the chosen cell of the confusion matrix
  let shown = []; // the items of that cell, sorted
  let current = null; // the item in view
  let why = 'predicted';

  // Overview and detail

  function withButton(element) {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...element.childNodes);
    element.append(button);
    return button;
  }

  function arrange() {
    const { actual, predicted } = pair?.parentElement.dataset ?? {};
    const belongs = ({ dataset: o }) => !pair || (o.actual === actual && o.predicted === predicted);
    shown = orders[byId('sort').value].map((i) => items[i]).filter(belongs);
    list.replaceChildren(...shown);
    for (const cell of cells) cell.setAttribute('aria-pressed', cell === pair);
    byId('all').hidden = !pair;
    const count = `${shown.length.toLocaleString('en')} ${shown.length === 1 ? 'mistake' : 'mistakes'}`;
    byId('status').textContent = pair ? `${count}: ${actual} predicted as ${predicted}` : count;
    byId('detail').hidden = !shown.length;
    if (shown.length) show(shown[0]);
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
    byId('image').src = byId('under').src = item.querySelector('img').src;
    drawMaps();
    showVerdict();
  }

  function step(by) {
    const inList = list.contains(document.activeElement);
    show(shown[(shown.indexOf(current) + by + shown.length) % shown.length]);
    if (inList) current.firstElementChild.focus({ preventScroll: true });
  }

  // Maps

  function drawMaps() {
    const own = maps[items.indexOf(current)];
    for (const id of ['explained', 'maps', 'why']) byId(id).hidden = !own.length;
    byId('mapless').hidden = own.length;
    const chosen = Number(byId('layer').value);
    const image = current.querySelector('img');
    const [width, height] = ['width', 'height'].map((o) => Number(image.getAttribute(o)));
    own.forEach((map, i) => {
      const values = enlarge(bytes(map[why]), map.width, map.height, width, height);
      const figure = byId('film').children[i];
      paint(figure.firstElementChild, values, width, height);
      figure.toggleAttribute('aria-current', i === chosen);
      if (i !== chosen) return;
      paint(byId('map'), values, width, height);
      byId('layer').setAttribute('aria-valuetext', [map.layer, stamps[map.layer]].filter(Boolean).join(', '));
      const text = `Evidence for ${current.dataset[why]} in ${map.layer}, ${map.height} × ${map.width} `;
      byId('evidence').replaceChildren(text, ...stamped(map.layer));
    });
    for (const button of reasons) button.setAttribute('aria-pressed', button.dataset.why === why);
  }

  // The stamp of a layer that was measured as not faithful; else nothing.
  function stamped(layer) {
    if (!stamps[layer]) return [];
    const stamp = document.createElement('span');
    stamp.className = 'stamp';
    stamp.textContent = stamps[layer];
    return [stamp];
  }

  // Enlarge as `grad_cam` does: bilinear between the pixels' centres, then scale the minimum to 0, the maximum to 1.
  function enlarge(map, w, h, width, height) {
    const columns = neighbours(w, width);
    const values = neighbours(h, height).flatMap(([top, bottom, y]) =>
      columns.map(([left, right, x]) => {
        const row = (at) => map[at * w + left] * (1 - x) + map[at * w + right] * x;
        return row(top) * (1 - y) + row(bottom) * y;
      }));
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    return values.map((value) => (high > low ? (value - low) / (high - low) : 0));
  }

  // For each of `to` pixels: the two neighbours among `from` pixels, and the weight of the second.
  function neighbours(from, to) {
    return Array.from({ length: to }, (_, i) => {
      const at = Math.max(0, ((i + 0.5) * from) / to - 0.5);
      const first = Math.floor(at);
      return [first, Math.min(first + 1, from - 1), at - first];
    });
  }

  function paint(canvas, values, width, height) {
    Object.assign(canvas, { width, height });
    const pixels = new ImageData(width, height);
    values.forEach((value, i) => {
      const colour = 4 * Math.round(255 * value);
      pixels.data.set(palette.subarray(colour, colour + 4), 4 * i);
    });
    canvas.getContext('2d').putImageData(pixels, 0, 0);
  }

  // Verdicts

  function judge(verdict) {
    byId('unsaved').hidden = verdicts.toggle(current.dataset.id, verdict);
    mark(current);
    showVerdict();
  }

  function mark(item) {
    item.dataset.verdict = verdicts.of(item.dataset.id);
  }

  function showVerdict() {
    for (const button of judgements) {
      button.setAttribute('aria-pressed', button.dataset.verdict === current.dataset.verdict);
    }
    byId('judged').textContent = items.filter((item) => item.dataset.verdict).length;
  }

  function download() {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([verdictsCsv(items.map((item) => item.dataset))], { type: 'text/csv' }));
    link.download = 'verdicts.csv';
    link.click();
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
  for (const button of reasons) on(button, 'click', () => { why = button.dataset.why; drawMaps(); });
  for (const button of judgements) on(button, 'click', () => judge(button.dataset.verdict));
  on(byId('all'), 'click', () => { pair = null; arrange(); byId('sort').focus(); });
  on(byId('sort'), 'change', arrange);
  on(byId('layer'), 'input', drawMaps);
  on(byId('previous'), 'click', () => step(-1));
  on(byId('next'), 'click', () => step(1));
  on(byId('export'), 'click', download);
  on(document, 'keydown', (event) => {
    const elsewhere = event.altKey || event.ctrlKey || event.metaKey || event.target.matches('input, select, pre, [role=region]');
    if (elsewhere || !shown.length) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      event.preventDefault();
      step(by);
      if (!byId('review').contains(document.activeElement)) byId('detail').focus();
    } else if (byId('review').contains(event.target)) {
      judgements[Number(event.key) - 1]?.click();
    }
  });

  for (const { layer } of maps[0]) {
    const figure = document.createElement('figure');
    const caption = document.createElement('figcaption');
    caption.append(`${layer} `, ...stamped(layer));
    figure.append(document.createElement('canvas'), caption);
    byId('film').append(figure);
  }
  byId('layer').max = byId('layer').value = maps[0].length - 1;
  byId('layer').parentElement.style.setProperty('--layers', maps[0].length);
  document.documentElement.classList.add('scripted');
  arrange();
}
