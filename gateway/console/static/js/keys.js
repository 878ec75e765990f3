// The form of a key hides what does not apply; a new key can be tested with one small call.

for (const part of document.querySelectorAll("[data-when]")) {
  const [name, value] = part.dataset.when.split("=");
  const form = part.closest("form");
  const show = () => (part.hidden = new FormData(form).get(name) !== value);
  form.addEventListener("change", show);
  show();
}

const test = document.querySelector("[data-test]");
if (test) {
  test.hidden = false;
  const result = test.querySelector("[aria-live]");
  const button = test.querySelector("button");
  button.addEventListener("click", async () => {
    button.disabled = true;
    result.textContent = result.dataset.wait;
    const started = performance.now();
    try {
      const response = await fetch("/v1/chat/completions", {
        method: "POST",
        headers: {
          authorization: `Bearer ${document.getElementById("new-key").textContent.trim()}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({
          model: test.dataset.test,
          max_tokens: 16,
          messages: [{ role: "user", content: "Say hello." }],
        }),
      });
      const body = await response.json();
      const seconds = ((performance.now() - started) / 1000).toFixed(2);
      result.textContent = response.ok
        ? `${result.dataset.ok} ${body.usage?.total_tokens ?? "?"} tokens, ${seconds} s`
        : `${result.dataset.failed} ${response.status} ${body.error?.message ?? ""}`;
    } catch (error) {
      result.textContent = `${result.dataset.failed} ${error.message}`;
    }
    button.disabled = false;
  });
}
