// The verdicts on the mistakes: the browser keeps them for the next visit, and a CSV file hands them on.

class Verdicts {
  // `key` is the page's; verdicts are stored by the image's index in the data.
  constructor(key) {
    this.name = `verdicts ${key}`;
    try {
      this.given = JSON.parse(localStorage.getItem(this.name)) ?? {};
    } catch {
      this.given = {}; // a browser may block storage for local files; `toggle` tells
    }
  }

  of(id) {
    return this.given[id] ?? '';
  }

  // Give the verdict, or take it back if it was given before; false if the browser can't store it.
  toggle(id, verdict) {
    if (this.given[id] === verdict) delete this.given[id];
    else this.given[id] = verdict;
    try {
      localStorage.setItem(this.name, JSON.stringify(this.given));
    } catch {
      return false;
    }
    return true;
  }
}

// The mistakes that have a verdict, as CSV.
function verdictsCsv(mistakes) {
  const columns = ['file', 'actual', 'predicted', 'verdict'];
  const rows = mistakes.filter((o) => o.verdict).map((o) => columns.map((column) => o[column]));
  // spreadsheets read text that begins with one of these as a formula: an apostrophe prevents it
  const quoted = (text) => `"${text.replace(/^(?=[=+\-@\t\r])/, "'").replaceAll('"', '""')}"`;
  return [columns, ...rows].map((row) => row.map(quoted).join(',') + '\r\n').join('');
}
