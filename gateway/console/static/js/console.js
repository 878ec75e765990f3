// What every page has: copy buttons, remembered tabs, the theme, and warnings before leaving.

const live = () => document.getElementById("live");

function announce(text) {
  const region = live();
  if (region) region.textContent = text;
}

async function copyText(source, text) {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Denied: select instead.
    }
  }
  const range = document.createRange();
  range.selectNodeContents(source);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  const copied = await copyText(source, (source.dataset.text ?? source.textContent).trim());
  const label = button.querySelector("span") ?? button;
  const before = button.dataset.label ?? label.textContent;
  button.dataset.label = before;
  label.textContent = copied ? button.dataset.done : button.dataset.failed;
  announce(label.textContent);
  if (copied) document.querySelectorAll("[data-leave]").forEach((panel) => delete panel.dataset.leave);
  setTimeout(() => (label.textContent = before), 2000);
});

// Saves a text of the page as a file.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-save]");
  const source = button && document.getElementById(button.dataset.save);
  if (!source) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([source.textContent], { type: "text/csv" }));
  link.download = button.dataset.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  document.querySelectorAll("[data-leave]").forEach((panel) => delete panel.dataset.leave);
});

// A value that is shown once asks before it is left uncopied.
addEventListener("beforeunload", (event) => {
  if (document.querySelector("[data-leave]")) event.preventDefault();
});

function selectTab(list, name) {
  for (const tab of list.querySelectorAll("[role=tab]")) {
    const selected = tab.dataset.tab === name;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
    const panel = document.getElementById(tab.getAttribute("aria-controls"));
    if (panel) panel.hidden = !selected;
  }
}

function prepareTabs(root) {
  for (const list of root.querySelectorAll("[role=tablist]")) {
    list.hidden = false;
    const names = [...list.querySelectorAll("[role=tab]")].map((tab) => tab.dataset.tab);
    const kept = localStorage.getItem("tab");
    selectTab(list, names.includes(kept) ? kept : names[0]);
  }
}

// Parts that are read again and again are not while nobody looks.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.matches("[hx-trigger*=every]")) event.preventDefault();
});

document.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (!tab) return;
  localStorage.setItem("tab", tab.dataset.tab);
  selectTab(tab.closest("[role=tablist]"), tab.dataset.tab);
});

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.("[role=tab]");
  if (tab && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
    const next = tabs[(tabs.indexOf(tab) + (event.key === "ArrowRight" ? 1 : tabs.length - 1)) % tabs.length];
    next.focus();
    next.click();
  }
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  }
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// Shortcuts: `?` lists them, `/` goes to the first filter, `g` and a digit to a page of the sidebar.
let isGoing = false;
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, select, textarea, [contenteditable]");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const goes = isGoing;
  isGoing = event.key === "g";
  if (event.key === "?") document.getElementById("shortcuts")?.showModal();
  else if (event.key === "/") {
    const field = document.querySelector("main form[method=get] :is(input:not([type=hidden]), select)");
    if (field) event.preventDefault();
    field?.focus();
  } else if (goes && event.key >= "1" && event.key <= "9") {
    document.querySelectorAll(".sidebar .nav-link")[event.key - 1]?.click();
  }
});

// What a table or the sidebar cuts is shown whole under the pointer.
document.addEventListener("pointerover", (event) => {
  const cell = event.target.closest?.(".long, .name b, .name span");
  if (cell && !cell.title && cell.scrollWidth > cell.clientWidth) cell.title = cell.textContent.trim();
});

// Filters apply at once; without script, their button does.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto]");
  if (form) form.requestSubmit();
});

// A second click on the same button sends nothing.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "1";
  setTimeout(() => delete form.dataset.sent, 5000);
});

addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.includes("zone=")) {
  document.cookie = `zone=${zone}; path=/; max-age=31536000; samesite=lax`;
}

// A part that cannot be read is not silently the old one.
const removeFailure = () => document.getElementById("request-failed")?.remove();
function showFailure({ detail }) {
  removeFailure();
  const notice = document.getElementById("failed")?.content.firstElementChild.cloneNode(true);
  if (!notice) return;
  notice.querySelector("button").addEventListener("click", () => {
    if (detail.elt.matches("form")) detail.elt.requestSubmit();
    else location.reload();
  });
  document.querySelector(".page-head").after(notice);
}
for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, showFailure);
}
document.addEventListener("htmx:afterSwap", removeFailure);

// What was opened in a part stays open when the part is renewed.
let opened = [];
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  opened = [...detail.target.querySelectorAll("details[open][id]")].map(({ id }) => id);
});
document.addEventListener("htmx:afterSwap", (event) => {
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  prepareTabs(event.target);
});

prepareTabs(document);
