// Plays the call from where a line was said, and marks the line that is heard.
// Buttons with data-seek (seconds) belong to the audio element with data-recording; the last that has begun is heard.
// Where the player fails, one of the elements with data-problem says why.

function lines() {
  return [...document.querySelectorAll("[data-seek]")];
}

function mark(audio) {
  let heard = null;
  for (const line of lines()) {
    if (Number(line.dataset.seek) <= audio.currentTime + 0.05) heard = line;
  }
  for (const line of lines()) line.toggleAttribute("data-heard", line === heard && audio.currentTime > 0);
}

function tell(problem) {
  for (const each of document.querySelectorAll("[data-problem]")) each.hidden = each.dataset.problem !== problem;
}

// A player does not tell the status that it was answered with.
async function explain(audio) {
  const status = await fetch(audio.src, { method: "HEAD" }).then((answer) => answer.status, () => 0);
  tell(status === 404 ? "unreadable" : "away");
  audio.load(); // or it would not ask again
}

const audio = document.querySelector("[data-recording]");
if (audio) {
  audio.addEventListener("timeupdate", () => mark(audio));
  audio.addEventListener("error", () => explain(audio));
  audio.addEventListener("playing", () => tell(null));
  document.addEventListener("click", (event) => {
    const line = event.target.closest("[data-seek]");
    if (!line) return;
    audio.currentTime = Number(line.dataset.seek);
    audio.play().catch(() => {}); // the error's event says it
  });
}
