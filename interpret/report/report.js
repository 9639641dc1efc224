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
    showImage();
    drawMaps();
    showVerdict();
  }

  function step(by) {
    const inList = list.contains(document.activeElement);
    show(shown[(shown.indexOf(current) + by + shown.length) % shown.length]);
    if (inList) current.firstElementChild.focus({ preventScroll: true });
  }

  // The image; of a photograph also a frame around the part that the model saw.
  function showImage() {
    const image = current.querySelector('img');
    for (const id of ['image', 'under']) {
      byId(id).src = image.src;
      byId(id).className = image.className;
    }
    const { seen, href } = current.dataset;
    const [width, height] = size(image);
    const [x, y, w, h] = part();
    const places = { x, y, w, h, ratio: width / height, 'seen-ratio': (width * w) / (height * h) };
    for (const [name, value] of Object.entries(places)) document.querySelector('.views').style.setProperty(`--${name}`, value);
    byId('frame').hidden = !seen;
    byId('input').textContent = seen ? 'The photograph; the model saw the part in the frame' : "The model's input";
    if (href) byId('original').href = href;
    else byId('original').removeAttribute('href');
  }

  // The part of the current image that the model saw: left, top, width and height, as fractions of the image.
  function part() {
    return (current.dataset.seen ?? '0 0 1 1').split(' ').map(Number);
  }

  function size(image) {
    return ['width', 'height'].map((o) => Number(image.getAttribute(o)));
  }

  // Maps

  function drawMaps() {
    const own = maps[items.indexOf(current)];
    for (const id of ['explained', 'maps', 'why']) byId(id).hidden = !own.length;
    byId('mapless').hidden = own.length;
    const chosen = Number(byId('layer').value);
    const [, , ...share] = part();
    const sides = size(current.querySelector('img')).map((side, i) => side * share[i]);
    const [width, height] = sides.map((side) => Math.round(side * Math.min(1, 128 / Math.max(...sides)))); // fast to paint
    own.forEach((map, i) => {
      const values = enlarge(bytes(map[why]), map.width, map.height, width, height);
      const figure = byId('film').children[i];
      paint(figure.firstElementChild, values, width, height, palette);
      figure.toggleAttribute('aria-current', i === chosen);
      if (i !== chosen) return;
      paint(byId('map'), values, width, height, palette);
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
