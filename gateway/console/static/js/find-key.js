// Finds a key by its SHA-256, so that the key itself never leaves the page. Absent without WebCrypto.

const place = document.querySelector("[data-find-key]");
const field = place?.querySelector("input");

async function find() {
  const key = field.value.trim();
  if (!key) return;
  field.value = "";
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key));
  const digest = [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  location.assign(`/admin-ui/keys?digest=${digest}`);
}

if (field && window.isSecureContext && crypto.subtle) {
  place.hidden = false;
  field.addEventListener("paste", () => setTimeout(find));
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    find();
  });
}
