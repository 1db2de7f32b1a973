"use strict";
// Sorts a table by a column: numbers by value, words by alphabet, what is missing last, in either direction.
function sortBy(header) {
  const table = header.closest("table");
  const index = Array.from(header.parentNode.children).indexOf(header);
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const body = table.tBodies[0];
  const key = (row) => row.children[index].dataset.value;
  const rows = Array.from(body.rows).sort((one, two) => {
    const a = key(one), b = key(two);
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const numbers = header.classList.contains("number");
    const order = numbers ? Number(a) - Number(b) : a.localeCompare(b);
    return ascending ? order : -order;
  });
  body.append(...rows);
  const direction = ascending ? "ascending" : "descending";
  document.getElementById("announcement").textContent = `sorted by ${header.textContent.trim()}, ${direction}`;
}
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}
