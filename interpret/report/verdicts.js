// The verdicts on the mistakes; the browser keeps them for the next visit.

class Verdicts {
  // `key` is the page's; verdicts are stored by the image's index in the data.
  constructor(key) {
    this.name = `verdicts ${key}`;
    this.before = []; // for `undo`: pairs of an index and what was given before
    this.stored = true; // whether the browser could store the latest change
    try {
      this.given = JSON.parse(localStorage.getItem(this.name)) ?? {};
    } catch {
      this.given = {}; // a browser may block storage for local files; `set` tells
    }
    for (const [id, given] of Object.entries(this.given)) {
      if (typeof given === 'string') this.given[id] = { verdict: given }; // of an earlier version
    }
  }

  // The verdict, right class and note of an image; '' for what was not given.
  of(id) {
    return { verdict: '', right: '', note: '', ...this.given[id] };
  }

  judge(id, verdict, right = '') {
    this.before.push([id, this.of(id)]);
    this.set(id, { verdict, right });
  }

  // Take the latest verdict back; return the index of its image.
  undo() {
    const [id, { verdict, right }] = this.before.pop();
    this.set(id, { verdict, right });
    return id;
  }

  set(id, changes) {
    this.given[id] = { ...this.of(id), ...changes };
    try {
      localStorage.setItem(this.name, JSON.stringify(this.given));
      this.stored = true;
    } catch {
      this.stored = false;
    }
  }
}
