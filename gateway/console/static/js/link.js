// The token of a link stands after `#`, which no server sees: it is moved into the form.

const form = document.querySelector("form[data-link]");
const token = location.hash.slice(1);
if (form && token) {
  form.elements.token.value = token;
  form.querySelector("[data-token]").hidden = true;
  history.replaceState(null, "", location.pathname);
  if (form.dataset.link === "enter") form.requestSubmit();
}
