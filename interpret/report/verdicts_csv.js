// Verdicts as a CSV file.

const NAMES = ['file', 'split', 'actual', 'predicted', 'verdict', 'right_class', 'note'];
const NUMBERS = ['probability', 'loss', 'label_quality'];

// Spreadsheets read text that begins with one of these as a formula: an apostrophe prevents it.
const asText = (text) => text.replace(/^(?=[=+\-@\t\r])/, "'");
const fromText = (text) => text.replace(/^'(?=[=+\-@\t\r])/, '');

// `rows` are objects with NAMES and NUMBERS.
function toCsv(rows) {
  const quoted = (text) => `"${asText(text).replaceAll('"', '""')}"`;
  const lines = rows.map((row) => [...NAMES.map((name) => quoted(row[name])), ...NUMBERS.map((name) => row[name])]);
  return [[...NAMES, ...NUMBERS].map(quoted), ...lines].map((line) => line.join(',') + '\r\n').join('');
}

// The rows of a file by `toCsv`, or as a spreadsheet saved it: with semicolons, for example, or without quotes.
function fromCsv(text) {
  const separator = text.match(/^\uFEFF?"?file"?([,;\t])/)?.[1];
  if (!separator) return [];
  const lines = [[]];
  const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^${separator}\r\n]*))(${separator}|\r\n|\n|\r|$)`, 'y');
  cell.lastIndex = Number(text.startsWith('\uFEFF'));
  while (cell.lastIndex < text.length) {
    const [, quoted, plain, end] = cell.exec(text) ?? [];
    if (end === undefined) break; // text after a closing quote: the rest can't be read
    lines.at(-1).push(fromText(quoted?.replaceAll('""', '"') ?? plain));
    if (end !== separator) lines.push([]);
  }
  const [names, ...rows] = lines.filter((line) => line.length);
  return rows.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i] ?? ''])));
}
