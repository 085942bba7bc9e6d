// The editor of a draft: rows come and go without a round trip, and leaving with unsaved words is asked about.
// Without this module the same buttons work through the server.

const form = document.querySelector("[data-draft]");
let isChanged = form.hasAttribute("data-unsaved");

form.addEventListener("input", () => (isChanged = true));
form.addEventListener("submit", () => (isChanged = false));
addEventListener("beforeunload", (event) => {
  if (isChanged) event.preventDefault();
});

form.addEventListener("click", (event) => {
  const add = event.target.closest("[data-add]");
  const remove = event.target.closest("[data-remove]");
  if (!add && !remove) return;
  event.preventDefault();
  isChanged = true;
  if (add) addRow(add.dataset.add);
  else removeRow(remove.closest("[data-row]"));
});

function addRow(path) {
  const template = form.querySelector(`template[data-new="${path}"]`);
  const rows = form.querySelector(`[data-rows="${path}"]`);
  // A question's template lies inside that of its intent, so each names its rows by a mark of its own.
  const mark = path.endsWith(".questions") ? "__question__" : "__row__";
  const markup = template.innerHTML.replaceAll(mark, nextNumber(rows, path));
  rows.insertAdjacentHTML("beforeend", markup);
  const row = rows.lastElementChild;
  if (row.tagName === "DETAILS") row.open = true;
  row.querySelector("input, textarea, select").focus();
}

function nextNumber(rows, path) {
  const numbers = [...rows.querySelectorAll("[name]")]
    .filter((field) => field.name.startsWith(`${path}.`))
    .map((field) => Number(field.name.slice(path.length + 1).split(".")[0]));
  return String(Math.max(-1, ...numbers) + 1);
}

function removeRow(row) {
  const next = row.nextElementSibling ?? row.previousElementSibling;
  const adding = row.parentElement.parentElement.querySelector("[data-add]");
  row.remove();
  (next?.querySelector("summary, input") ?? adding)?.focus();
}

// A sentence about a field inside a closed part leads to it.
document.addEventListener("click", (event) => {
  const link = event.target.closest('.flash a[href^="#"]');
  const field = link && document.getElementById(link.hash.slice(1));
  if (!field) return;
  for (let part = field.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  setTimeout(() => field.focus());
});
