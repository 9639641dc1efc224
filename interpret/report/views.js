// The chosen mistake: its image, and its maps laid over the part that the model saw.

class Views {
  // `maps` has each image's maps, [] for none; `stamps` has each layer's warning; `first` is the layer to begin with.
  constructor({ maps, stamps, first, colours }) {
    Object.assign(this, { maps, stamps, palette: bytes(colours), why: 'predicted' });
    this.element = document.querySelector('.views');
    this.film = document.getElementById('film');
    this.layer = document.getElementById('layer');
    this.reasons = [...document.querySelectorAll('[data-why]')];
    for (const { layer } of maps[0]) {
      const figure = document.createElement('figure');
      const caption = document.createElement('figcaption');
      caption.append(`${layer} `, ...this.stamped(layer, 'not faithful here'));
      caption.title = stamps[layer];
      figure.append(document.createElement('canvas'), caption);
      this.film.append(figure);
    }
    this.layer.max = maps[0].length - 1;
    this.layer.value = first;
    this.layer.parentElement.style.setProperty('--layers', maps[0].length);
    this.layer.addEventListener('input', () => this.drawMaps());
    for (const button of this.reasons) {
      button.addEventListener('click', () => { this.why = button.dataset.why; this.drawMaps(); });
    }
    const opacity = document.getElementById('opacity');
    opacity.addEventListener('input', () => this.element.style.setProperty('--opacity', `${opacity.value}%`));
  }

  // Show `item`, the image at `index` of `maps`.
  show(item, index) {
    this.own = this.maps[index];
    this.names = item.dataset;
    const image = item.querySelector('img');
    const [width, height] = ['width', 'height'].map((o) => Number(image.getAttribute(o)));
    const { seen, href } = item.dataset;
    const [x, y, w, h] = (seen ?? '0 0 1 1').split(' ').map(Number); // the part that the model saw, as fractions
    const places = { x, y, w, h, ratio: width / height, 'seen-ratio': (width * w) / (height * h) };
    for (const [name, value] of Object.entries(places)) this.element.style.setProperty(`--${name}`, value);
    const shrink = Math.min(1, 128 / Math.max(width * w, height * h)); // larger maps take long to paint
    this.size = [width * w, height * h].map((side) => Math.round(side * shrink));
    for (const id of ['image', 'under']) {
      document.getElementById(id).src = image.src;
      document.getElementById(id).className = image.className;
    }
    const caption = seen ? 'The photograph; the model saw the part in the frame' : "The model's input";
    document.getElementById('input').textContent = caption;
    document.getElementById('frame').hidden = !seen;
    if (href) document.getElementById('original').href = href;
    else document.getElementById('original').removeAttribute('href');
    this.drawMaps();
  }

  drawMaps() {
    const { own, names, why } = this;
    for (const id of ['explained', 'maps', 'evidence-for']) document.getElementById(id).hidden = !own.length;
    document.getElementById('mapless').hidden = own.length;
    const chosen = Number(this.layer.value);
    own.forEach((map, i) => {
      const values = enlarge(bytes(map[why]), map.width, map.height, ...this.size);
      const figure = this.film.children[i];
      paint(figure.firstElementChild, values, ...this.size, this.palette);
      figure.toggleAttribute('aria-current', i === chosen);
      if (i !== chosen) return;
      paint(document.getElementById('map'), values, ...this.size, this.palette);
      this.layer.setAttribute('aria-valuetext', [map.layer, this.stamps[map.layer]].filter(Boolean).join(', '));
      const text = `Evidence for ${names[why]} in ${map.layer}, ${map.height} × ${map.width} `;
      document.getElementById('evidence').replaceChildren(text, ...this.stamped(map.layer, this.stamps[map.layer]));
    });
    for (const button of this.reasons) {
      button.textContent = names[button.dataset.why];
      button.setAttribute('aria-pressed', button.dataset.why === why);
    }
  }

  // `text` as the stamp of a layer that was measured as not faithful; else nothing.
  stamped(layer, text) {
    if (!this.stamps[layer]) return [];
    const stamp = document.createElement('span');
    stamp.className = 'stamp';
    stamp.textContent = text;
    return [stamp];
  }
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}
