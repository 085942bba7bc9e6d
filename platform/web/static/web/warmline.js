// Small behaviours that every page shares. All of them are delegated, so that what htmx swaps in needs no set-up.

const ACTIONS = {
  "[data-theme-toggle]": toggleTheme,
  "[data-copy]": copy,
  "[data-dismiss]": (button) => button.closest(".flash").remove(),
  "[data-open]": (button) => document.getElementById(button.dataset.open).showModal(),
  "[data-close]": (button) => button.closest("dialog").close(),
  "[data-nav-toggle]": toggleNavigation,
};

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  for (const [selector, act] of Object.entries(ACTIONS)) {
    const element = event.target.closest(selector);
    if (element) return act(element);
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

function toggleTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // The choice then holds for this page alone.
  }
}

async function copy(button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    // Without the clipboard (plain http, or refused) the value is marked, for the keyboard to copy.
    const value = button.parentElement.querySelector("code") ?? button;
    getSelection().selectAllChildren(value);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => (button.textContent = label), 1600);
}

function toggleNavigation(button) {
  const shell = button.closest(".shell");
  const isOpen = shell.dataset.nav === "open";
  shell.dataset.nav = isOpen ? "" : "open";
  button.setAttribute("aria-expanded", String(!isOpen));
}

// --- charts: values under the pointer, or under the arrow keys ---

function showPoint(chart, index) {
  const { labels, values } = JSON.parse(chart.dataset.chart);
  const isBars = chart.querySelector(".bar") !== null;
  const bounded = Math.max(0, Math.min(labels.length - 1, index));
  chart.dataset.index = bounded;
  chart.querySelector("[data-when]").textContent = labels[bounded];
  chart.querySelectorAll("[data-value]").forEach((cell, series) => (cell.textContent = values[series][bounded]));
  const plot = chart.querySelector(".chart__plot");
  let cursor = plot.querySelector(".chart__cursor");
  if (!cursor) plot.append((cursor = Object.assign(document.createElement("i"), { className: "chart__cursor" })));
  const share = isBars ? (bounded + 0.5) / labels.length : bounded / Math.max(1, labels.length - 1);
  cursor.style.left = `${share * 100}%`;
}

function clearPoint(chart) {
  chart.querySelector(".chart__cursor")?.remove();
  chart.querySelectorAll("[data-value], [data-when]").forEach((cell) => (cell.textContent = ""));
}

document.addEventListener("pointermove", (event) => {
  const plot = event.target.closest?.(".chart__plot");
  if (!plot) return;
  const chart = plot.closest(".chart");
  const count = JSON.parse(chart.dataset.chart).labels.length;
  const box = plot.getBoundingClientRect();
  const share = (event.clientX - box.left) / box.width;
  showPoint(chart, chart.querySelector(".bar") ? Math.floor(share * count) : Math.round(share * (count - 1)));
});
document.addEventListener("pointerout", (event) => {
  const plot = event.target.closest?.(".chart__plot");
  if (plot && !plot.contains(event.relatedTarget)) clearPoint(plot.closest(".chart"));
});
document.addEventListener("keydown", (event) => {
  const chart = event.target.closest?.(".chart");
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!chart || !step) return;
  event.preventDefault();
  showPoint(chart, Number(chart.dataset.index ?? -1) + step);
});
document.addEventListener("focusout", (event) => {
  if (event.target.matches?.(".chart")) clearPoint(event.target);
});

// --- "4 min ago" stays true ---

const UNITS = [[3600, "h"], [60, "min"], [1, "s"]];

function refreshTimes() {
  for (const element of document.querySelectorAll("time[data-ago]")) {
    const seconds = (Date.now() - new Date(element.dateTime)) / 1000;
    const [size, unit] = UNITS.find(([size]) => Math.abs(seconds) >= size) ?? UNITS[2];
    const count = Math.floor(Math.abs(seconds) / size);
    element.textContent = Math.abs(seconds) < 10 ? "just now" : seconds > 0 ? `${count} ${unit} ago` : `in ${count} ${unit}`;
  }
}
setInterval(refreshTimes, 15_000);

// The server dates a new tenant's pages by the browser's time zone.
for (const input of document.querySelectorAll("input[name=time_zone][type=hidden]")) {
  input.value ||= Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
}
