// Tells the page that calls changed. An element with data-live="/t/SLUG/live/" opens the socket; what listens is htmx:
// hx-trigger="calls-changed from:body", or "call-changed-ID from:body" for one call. The server renders what is shown.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
// News come in bursts: the page asks at most so often, and once more after the last.
const QUIET_MS = 1000;

const pending = new Set();
let timer;

function announce(names) {
  for (const name of names) pending.add(name);
  if (timer) return;
  const flush = () => {
    if (!pending.size) return (timer = undefined);
    for (const name of pending) document.body.dispatchEvent(new CustomEvent(name));
    pending.clear();
    timer = setTimeout(flush, QUIET_MS);
  };
  timer = setTimeout(flush, 50);
}

function show(state) {
  for (const element of document.querySelectorAll("[data-live-state]")) {
    element.dataset.liveState = state;
    element.textContent = { open: "live", lost: "reconnecting…", refused: "not live: reload the page" }[state];
  }
}

function listen(path) {
  let pause = FIRST_PAUSE_MS;
  let isFirst = true;
  const connect = () => {
    const socket = new WebSocket(new URL(path, location.href.replace(/^http/, "ws")));
    socket.addEventListener("open", () => {
      pause = FIRST_PAUSE_MS;
      show("open");
      // What happened while the line was down was missed.
      if (!isFirst) announce(["calls-changed", ...watched()]);
      isFirst = false;
    });
    socket.addEventListener("message", (event) => {
      const { call } = JSON.parse(event.data);
      announce(["calls-changed", `call-changed-${call.id}`]);
    });
    socket.addEventListener("close", (event) => {
      if (event.code === 4404) return show("refused");
      show("lost");
      setTimeout(connect, pause * (0.75 + Math.random() / 2));
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    });
  };
  connect();
}

function watched() {
  return [...document.querySelectorAll("[data-call]")].map((element) => `call-changed-${element.dataset.call}`);
}

const source = document.querySelector("[data-live]");
if (source) listen(source.dataset.live);
