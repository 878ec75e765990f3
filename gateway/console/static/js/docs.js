// The documentation's search, its outline, and copying a page as Markdown.

const input = document.getElementById("doc-search");
const list = document.getElementById("doc-results");
let index;
let chosen = -1;

async function load() {
  index ??= fetch(input.dataset.index).then((response) => response.json());
  return index;
}

function score(words, title, heading) {
  const text = `${title} ${heading}`.toLowerCase();
  let found = 0;
  for (const word of words) {
    const at = text.indexOf(word);
    if (at < 0) return 0;
    found += at === 0 || /\W/.test(text[at - 1]) ? 3 : 1;
    if (title.toLowerCase().startsWith(word)) found += 2;
  }
  return found + (heading ? 0 : 1);
}

async function search() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const pages = words.length ? await load() : [];
  const found = pages
    .map(([path, title, heading]) => ({ path, title, heading, score: score(words, title, heading) }))
    .filter((each) => each.score)
    .sort((a, b) => b.score - a.score)
    .slice(0, 12);
  chosen = found.length ? 0 : -1;
  list.replaceChildren(
    ...found.map(({ path, title, heading }, at) => {
      const item = document.createElement("li");
      item.id = `doc-result-${at}`;
      item.role = "option";
      item.dataset.path = path;
      item.textContent = heading || title;
      if (heading) {
        const place = document.createElement("span");
        place.textContent = ` ${title}`;
        item.append(place);
      }
      return item;
    }),
  );
  if (words.length && !found.length) {
    const none = document.createElement("li");
    none.textContent = input.dataset.none;
    list.append(none);
  }
  list.hidden = !words.length;
  input.setAttribute("aria-expanded", String(!list.hidden));
  mark();
}

function mark() {
  [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === chosen)));
  const current = list.children[chosen];
  if (current?.id) input.setAttribute("aria-activedescendant", current.id);
  else input.removeAttribute("aria-activedescendant");
  current?.scrollIntoView({ block: "nearest" });
}

function close() {
  list.hidden = true;
  input.setAttribute("aria-expanded", "false");
}

input.addEventListener("focus", load);
input.addEventListener("input", search);
input.addEventListener("keydown", (event) => {
  const count = list.querySelectorAll("[data-path]").length;
  if (event.key === "ArrowDown" && count) chosen = (chosen + 1) % count;
  else if (event.key === "ArrowUp" && count) chosen = (chosen + count - 1) % count;
  else if (event.key === "Enter" && list.children[chosen]?.dataset.path) location.href = list.children[chosen].dataset.path;
  else if (event.key === "Escape") close();
  else return;
  event.preventDefault();
  mark();
});
list.addEventListener("mousedown", (event) => {
  const item = event.target.closest("[data-path]");
  if (item) location.href = item.dataset.path;
});
input.addEventListener("blur", close);
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input, textarea, select")) return;
  event.preventDefault();
  input.focus();
});

const copy = document.querySelector("[data-copy-from]");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const label = copy.querySelector("span");
    const before = label.textContent;
    try {
      const response = await fetch(copy.dataset.copyFrom);
      await navigator.clipboard.writeText(await response.text());
      label.textContent = copy.dataset.done;
    } catch {
      label.textContent = copy.dataset.failed;
    }
    document.getElementById("live").textContent = label.textContent;
    setTimeout(() => (label.textContent = before), 2000);
  });
}

const outline = document.querySelector(".outline");
if (outline) {
  const links = new Map([...outline.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver(
    (entries) => {
      const first = entries.find((entry) => entry.isIntersecting);
      if (!first) return;
      for (const link of links.values()) link.classList.remove("here");
      links.get(first.target.id)?.classList.add("here");
    },
    { rootMargin: "0px 0px -70% 0px" },
  );
  for (const id of links.keys()) {
    const heading = document.getElementById(id);
    if (heading) seen.observe(heading);
  }
}
// Scrolls the tree to the current page, and not the page itself.
const tree = document.querySelector(".doc-nav");
const current = tree.querySelector('.doc-tree [aria-current="page"]');
if (current) tree.scrollTop = current.getBoundingClientRect().top - tree.getBoundingClientRect().top - tree.clientHeight / 2;
