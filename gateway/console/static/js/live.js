// Follows the running calls. Without script the page shows them as they were when it was opened.

const page = document.getElementById("live-page");
const state = document.getElementById("live-state");
const pause = document.getElementById("live-pause");
const resume = document.getElementById("live-resume");
const list = () => document.getElementById("live-calls");

let source = null;
let newest = null; // the last list that was received
let paused = false;

const calls = (root) => [...root.querySelectorAll("[data-call]")].map((row) => row.dataset.call);

// The list never moves under the pointer or around the focus.
const isHeld = () => paused || list().matches(":hover") || list().contains(document.activeElement);

function say() {
  if (paused) return (state.textContent = state.dataset.paused);
  const shown = new Set(calls(list()));
  const waiting = newest ? calls(newest).filter((id) => !shown.has(id)).length : 0;
  state.textContent = waiting ? `${waiting} ${state.dataset.held}` : state.dataset.live;
}

function showCalls() {
  if (newest && !isHeld()) {
    list().replaceWith(newest);
    newest = null;
  }
  say();
}

function receive(event) {
  const parts = document.createElement("template");
  parts.innerHTML = event.data;
  newest = parts.content.getElementById("live-calls");
  if (!paused) document.getElementById("live-now").replaceWith(parts.content.getElementById("live-now"));
  showCalls();
}

function stop() {
  source.close();
  source = null;
  pause.hidden = true;
  resume.hidden = false;
  state.textContent = state.dataset.ended;
}

function start() {
  source = new EventSource(page.dataset.stream);
  source.addEventListener("message", receive);
  source.addEventListener("end", stop);
  source.addEventListener("error", () => source.readyState === EventSource.CLOSED && stop());
  pause.hidden = false;
  resume.hidden = true;
  say();
}

if (page.dataset.stream) {
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    showCalls();
  });
  resume.addEventListener("click", start);
  page.addEventListener("pointerout", () => setTimeout(showCalls, 0));
  page.addEventListener("focusout", () => setTimeout(showCalls, 0));
  start();
}
