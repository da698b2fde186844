// A click on a heading sorts its table: numbers by value, the rest by name, what is missing last.
for (const button of document.querySelectorAll('th button')) button.onclick = () => {
  const head = button.parentNode, place = head.cellIndex, body = head.closest('table').tBodies[0]
  const up = head.getAttribute('aria-sort') === 'descending'
  for (const other of head.parentNode.cells) other.removeAttribute('aria-sort')
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending')
  const value = row => row.cells[place].dataset.value ?? row.cells[place].textContent.trim()
  const compare = (a, b) => isNaN(parseFloat(a)) || isNaN(parseFloat(b)) ? a.localeCompare(b) : a - b || parseFloat(a) - parseFloat(b)
  const rows = [...body.rows].sort((a, b) => (value(a) === '') - (value(b) === '') || (up ? 1 : -1) * compare(value(a), value(b)))
  body.append(...rows)
}
