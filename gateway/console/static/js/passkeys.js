// Passkeys: the browser creates or uses one, and the form carries its response.

const supported =
  window.PublicKeyCredential?.parseRequestOptionsFromJSON &&
  window.PublicKeyCredential.parseCreationOptionsFromJSON;
let waiting = null; // the request that offers passkeys in the field of the name

async function create(form) {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(
    JSON.parse(form.dataset.options),
  );
  return navigator.credentials.create({ publicKey });
}

async function get(form, mediation, signal) {
  const response = await fetch(form.dataset.options, { method: "POST" });
  if (!response.ok) throw new Error(`options: ${response.status}`);
  const { options, state } = await response.json();
  form.elements.state.value = state;
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(options));
  return navigator.credentials.get({ publicKey, mediation, signal });
}

function send(form, credential) {
  form.elements.credential.value = JSON.stringify(credential.toJSON());
  form.submit();
}

async function offer(form) {
  if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
  waiting = new AbortController();
  try {
    send(form, await get(form, "conditional", waiting.signal));
  } catch {
    // Another way was chosen, or the user declined.
  }
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const failed = form.querySelector("[data-failed]");
  const button = form.querySelector("button");
  form.hidden = !supported;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    waiting?.abort();
    button.disabled = true;
    failed.hidden = true;
    try {
      send(form, await (form.dataset.passkey === "create" ? create(form) : get(form)));
    } catch {
      failed.hidden = false;
      button.disabled = false;
    }
  });
  if (supported && "conditional" in form.dataset) offer(form);
}
for (const part of document.querySelectorAll("[data-unsupported]")) part.hidden = Boolean(supported);
