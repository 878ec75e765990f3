// The playground calls /v1 from the browser. Its key and the conversation are in this module only.

const root = document.querySelector("[data-playground]");
if (root) start();

function start() {
  const form = root.querySelector("[data-form]");
  const list = root.querySelector("[data-conversation]");
  const stop = root.querySelector("[data-stop]");
  const send = form.querySelector("button");
  const input = (id) => document.getElementById(id);
  const messages = [];
  let key = null;
  let running = null;

  function body(text) {
    const system = input("system").value.trim();
    const asked = {
      model: input("model").value,
      messages: [
        ...(system ? [{ role: "system", content: system }] : []),
        ...messages,
        ...(text ? [{ role: "user", content: text }] : []),
      ],
      stream: true,
    };
    const most = input("max-tokens").valueAsNumber;
    const temperature = input("temperature").valueAsNumber;
    if (most > 0) asked.max_tokens = Math.floor(most);
    if (Number.isFinite(temperature)) asked.temperature = temperature;
    if (input("effort").value) asked.reasoning_effort = input("effort").value;
    return asked;
  }

  function showCode() {
    const asked = body(input("message").value.trim());
    const json = JSON.stringify(asked, null, 2);
    const show = (id, text) => (root.querySelector(`#${id} code`).textContent = text);
    // Strings and numbers of JSON are those of Python; the only truth value is written apart.
    const { stream, ...fields } = asked;
    show(
      "python",
      "import os\n\nfrom openai import OpenAI\n\n" +
        `client = OpenAI(base_url="${root.dataset.playground}/v1", api_key=os.environ["API_KEY"])\n` +
        `asked = ${JSON.stringify(fields, null, 4)}\n` +
        "for chunk in client.chat.completions.create(**asked, stream=True):\n" +
        "    for choice in chunk.choices:\n" +
        '        print(choice.delta.content or "", end="", flush=True)\n',
    );
    show(
      "typescript",
      'import OpenAI from "openai";\n\n' +
        `const baseURL = "${root.dataset.playground}/v1";\n` +
        "const client = new OpenAI({ baseURL, apiKey: process.env.API_KEY });\n" +
        `const stream = await client.chat.completions.create(${json});\n` +
        "for await (const chunk of stream) {\n" +
        '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n}\n',
    );
    show("curl", `curl ${root.dataset.playground}/v1/chat/completions \\\n` +
      '  -H "Authorization: Bearer $API_KEY" \\\n' +
      '  -H "Content-Type: application/json" \\\n' +
      `  -d '${json.replaceAll("'", "'\\''")}'`);
  }

  function add(role, text) {
    const item = document.createElement("li");
    const content = document.createElement("p");
    const note = document.createElement("small");
    item.className = role;
    content.textContent = text;
    note.className = "muted";
    item.append(content, note);
    list.append(item);
    return { content, note };
  }

  async function newKey() {
    const response = await fetch("/app/playground/key", { method: "POST" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return (await response.json()).key;
  }

  async function call(asked, signal) {
    for (const again of [false, true]) {
      key ??= await newKey();
      const response = await fetch("/v1/chat/completions", {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
        body: JSON.stringify(asked),
        signal,
      });
      if (response.status !== 401 || again) return response;
      key = null; // expired: a new one, once
    }
  }

  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const data = line.startsWith("data:") ? line.slice(5).trim() : "";
        if (data && data !== "[DONE]") yield JSON.parse(data);
      }
    }
  }

  async function cost(id) {
    for (let tries = 0; tries < 20; tries += 1) {
      const response = await fetch(`/app/playground/cost?id=${encodeURIComponent(id)}`);
      const found = response.ok ? await response.json() : null;
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    return null;
  }

  async function record(id, note, facts) {
    note.textContent = [...facts, root.dataset.waiting, id].join(" · ");
    const found = await cost(id);
    if (!found) return;
    const used = Object.entries(found.usage)
      .filter(([name, value]) => name.endsWith("_tokens") && value > 0)
      .map(([name, value]) => `${value} ${name.replace("_tokens", "").replaceAll("_", " ")}`);
    note.textContent = [...facts, `$${found.cost}`, used.join(", "), id].join(" · ");
  }

  async function ask(text) {
    const asked = body(text);
    add("user", text);
    messages.push({ role: "user", content: text });
    const { content, note } = add("assistant", "");
    const facts = [];
    const started = performance.now();
    let id = null;
    running = new AbortController();
    try {
      const response = await call(asked, running.signal);
      id = response.headers.get("x-request-id");
      if (!response.ok) {
        const failure = await response.json().catch(() => ({}));
        throw new Error(`${response.status} ${failure.error?.message ?? ""}`);
      }
      for await (const event of events(response)) {
        if (event.error) throw new Error(event.error.message);
        const piece = event.choices?.[0]?.delta?.content;
        if (piece && !facts.length) {
          const seconds = ((performance.now() - started) / 1000).toFixed(2);
          facts.push(`${seconds} ${root.dataset.first}`);
        }
        if (piece) content.textContent += piece;
      }
    } catch (error) {
      if (error.name === "AbortError") facts.push(root.dataset.stopped);
      else {
        content.textContent += `${content.textContent ? "\n" : ""}${root.dataset.failed} ${error.message}`;
        content.classList.add("error");
      }
    }
    running = null;
    if (content.textContent && !content.classList.contains("error")) {
      messages.push({ role: "assistant", content: content.textContent });
    } else messages.pop();
    if (id) record(id, note, facts);
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input("message").value.trim();
    if (!text || running) return;
    input("message").value = "";
    send.disabled = true;
    stop.hidden = false;
    await ask(text);
    send.disabled = false;
    stop.hidden = true;
    showCode();
  });
  stop.addEventListener("click", () => running?.abort());
  input("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  root.addEventListener("input", showCode);
  root.hidden = false;
  showCode();
}
