// Plays the call from where a line was said, and marks the line that is heard.
// Buttons with data-seek (seconds) belong to the audio element with data-recording; the last that has begun is heard.

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

const audio = document.querySelector("[data-recording]");
if (audio) {
  audio.addEventListener("timeupdate", () => mark(audio));
  document.addEventListener("click", (event) => {
    const line = event.target.closest("[data-seek]");
    if (!line) return;
    audio.currentTime = Number(line.dataset.seek);
    audio.play();
  });
}
