// The bar that gives, shows and takes back verdicts.

class ActionBar {
  // `classes` are the names to choose the right one from. `judged` is called after a verdict, and `undone`, with the
  // image's index, after one was taken back.
  constructor(verdicts, classes, { judged, undone }) {
    Object.assign(this, { verdicts, classes, judged, undone });
    this.buttons = [...document.querySelectorAll('button[data-verdict]')];
    for (const button of this.buttons) button.addEventListener('click', () => this.judge(button.dataset.verdict));
    this.name = document.getElementById('name');
    this.chooser = document.getElementById('chooser');
    this.note = document.getElementById('note');
    this.name.addEventListener('input', () => this.suggest());
    this.chooser.addEventListener('submit', (event) => {
      event.preventDefault();
      document.querySelector('#choices button')?.click();
    });
    this.chooser.addEventListener('keydown', ({ key }) => { if (key === 'Escape') this.close(); });
    document.getElementById('cancel').addEventListener('click', () => this.close());
    document.getElementById('undo').addEventListener('click', () => this.undo());
    this.note.addEventListener('input', () => this.verdicts.set(this.item.dataset.id, { note: this.note.value }));
    this.note.addEventListener('keydown', ({ key }) => { if (['Enter', 'Escape'].includes(key)) this.note.blur(); });
  }

  // Show the verdict on `item`; null if there is no image to judge.
  show(item) {
    this.item = item;
    this.close();
    document.getElementById('judge').disabled = !item;
    document.getElementById('undo').disabled = !this.verdicts.before.length;
    document.getElementById('unsaved').hidden = this.verdicts.stored;
    const { verdict, right, note } = this.verdicts.of(item?.dataset.id);
    for (const button of this.buttons) button.setAttribute('aria-pressed', button.dataset.verdict === verdict);
    document.getElementById('given').textContent = right && `: ${right}`;
    this.note.value = note;
  }

  judge(verdict) {
    const { id } = this.item.dataset;
    if (this.verdicts.of(id).verdict === verdict) this.give('');
    else if (verdict === 'label wrong') this.choose();
    else this.give(verdict);
  }

  give(verdict, right) {
    this.verdicts.judge(this.item.dataset.id, verdict, right);
    this.judged();
  }

  undo() {
    if (this.verdicts.before.length) this.undone(this.verdicts.undo());
  }

  // The right class: its first letters are typed, or it is clicked.

  choose() {
    this.name.value = '';
    this.suggest();
    this.chooser.hidden = false;
    this.name.focus({ preventScroll: true }); // the bar is in sight already
  }

  close() {
    this.chooser.hidden = true;
  }

  // Offer the classes that begin with what was typed, then those that contain it; the predicted class comes first.
  suggest() {
    const { actual, predicted } = this.item.dataset;
    const typed = this.name.value.toLowerCase();
    const place = (name) => name.toLowerCase().indexOf(typed);
    const rank = (name) => (name.toLowerCase() === typed ? -1 : 2 * (place(name) > 0) + (name !== predicted));
    const found = this.classes.filter((name) => name !== actual && place(name) >= 0).sort((a, b) => rank(a) - rank(b));
    const choices = found.slice(0, 12).map((name) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = name;
      button.addEventListener('click', () => this.give('label wrong', name));
      return button;
    });
    document.getElementById('choices').replaceChildren(...choices);
  }

  // Use the button or field that `key` stands for; false if there is none.
  press(key) {
    const all = [...document.querySelectorAll('#actions [aria-keyshortcuts]')];
    const element = all.find((o) => o.getAttribute('aria-keyshortcuts') === key);
    if (element === this.note) element.focus({ preventScroll: true });
    else element?.click();
    return Boolean(element);
  }
}
