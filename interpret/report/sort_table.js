// The headings of the table of classes sort it.

for (const heading of document.querySelectorAll('.scores thead th')) {
  const button = document.createElement('button');
  button.type = 'button';
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener('click', () => {
    const body = document.querySelector('.scores tbody');
    const text = (row) => row.children[heading.cellIndex].textContent;
    const by = heading.cellIndex ? (a, b) => number(text(a)) - number(text(b)) : (a, b) => text(a).localeCompare(text(b), 'en');
    const descending = heading.getAttribute('aria-sort') === 'ascending';
    for (const other of heading.parentElement.children) other.removeAttribute('aria-sort');
    heading.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    body.append(...[...body.rows].sort((a, b) => (descending ? by(b, a) : by(a, b))));
  });
}

function number(text) {
  return Number(text.replace(/[%,]/g, ''));
}
