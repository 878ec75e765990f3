// A tooltip beside the pointer, from the title of a bar, and the calls of a bar at a click.
// Without script the browser shows the title, and the table beside has the links.

const tip = document.createElement("div");
tip.className = "plot-tip";
tip.hidden = true;
document.body.append(tip);

let current = null;

function leave() {
  if (current) current.element.append(current.title);
  current = null;
  tip.hidden = true;
}

document.addEventListener("pointermove", (event) => {
  const bar = event.target.closest?.(".plot .hit");
  if (!bar) return leave();
  if (current?.element !== bar) {
    leave();
    const title = bar.querySelector("title");
    if (!title) return;
    title.remove(); // so that the browser shows none of its own
    current = { element: bar, title };
    tip.textContent = title.textContent;
    tip.hidden = false;
  }
  const { innerWidth, innerHeight } = window;
  const left = event.clientX + 14 + tip.offsetWidth > innerWidth ? event.clientX - 14 - tip.offsetWidth : event.clientX + 14;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4)}px`;
});
document.addEventListener("pointerleave", leave);
document.addEventListener("click", (event) => {
  const bar = event.target.closest?.(".plot [data-href]");
  if (bar) location.assign(bar.dataset.href);
});
document.addEventListener("htmx:beforeSwap", leave);
addEventListener("scroll", leave, { passive: true });
