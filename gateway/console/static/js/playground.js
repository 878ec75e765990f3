// The playground calls /v1 from the browser. Its key and the conversation are in this module only.

const root = document.querySelector("[data-playground]");
if (root) start();

function start() {
  const form = root.querySelector("[data-form]");
  const list = root.querySelector("[data-conversation]");
  const stop = root.querySelector("[data-stop]");
  const send = form.querySelector("button");
  const input = (id) => document.getElementById(id);
  const words = root.dataset;
  const threads = [[], []]; // what each model was asked and replied
  let key = null;
  let running = null;
  let compared = false;

  function models() {
    return [input("model").value, input("other")?.value].filter(Boolean);
  }

  function body(text, model = models()[0], thread = threads[0]) {
    const system = input("system").value.trim();
    const asked = {
      model,
      messages: [
        ...(system ? [{ role: "system", content: system }] : []),
        ...thread,
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
        `client = OpenAI(base_url="${words.playground}/v1", api_key=os.environ["API_KEY"])\n` +
        `asked = ${JSON.stringify(fields, null, 4)}\n` +
        "for chunk in client.chat.completions.create(**asked, stream=True):\n" +
        "    for choice in chunk.choices:\n" +
        '        print(choice.delta.content or "", end="", flush=True)\n',
    );
    show(
      "typescript",
      'import OpenAI from "openai";\n\n' +
        `const baseURL = "${words.playground}/v1";\n` +
        "const client = new OpenAI({ baseURL, apiKey: process.env.API_KEY });\n" +
        `const stream = await client.chat.completions.create(${json});\n` +
        "for await (const chunk of stream) {\n" +
        '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n}\n',
    );
    show("curl", `curl ${words.playground}/v1/chat/completions \\\n` +
      '  -H "Authorization: Bearer $API_KEY" \\\n' +
      '  -H "Content-Type: application/json" \\\n' +
      `  -d '${json.replaceAll("'", "'\\''")}'`);
  }

  function add(className) {
    const item = document.createElement("li");
    item.className = className;
    list.append(item);
    return item;
  }

  // A place for a reply: its parts by name, and `show`, which fills one and uncovers it.
  function place(item, model) {
    item.append(root.querySelector("[data-reply]").content.cloneNode(true));
    const reply = item.lastElementChild;
    reply.querySelector("h3").textContent = model;
    const part = (name) => reply.querySelector(`[data-${name}]`);
    const show = (name, text) => {
      part(name).textContent = text;
      const covered = part(name).closest("[hidden]");
      if (covered) covered.hidden = false;
    };
    return { reply, part, show };
  }

  async function newKey() {
    const response = await fetch("/app/playground/key", { method: "POST" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return (await response.json()).key;
  }

  async function call(asked, signal) {
    for (const again of [false, true]) {
      const held = (key ??= newKey()); // one key for both models
      const response = await held
        .then((value) =>
          fetch("/v1/chat/completions", {
            method: "POST",
            headers: { authorization: `Bearer ${value}`, "content-type": "application/json" },
            body: JSON.stringify(asked),
            signal,
          }),
        )
        .catch((error) => {
          held.catch(() => (key = null)); // the next message asks for a key again
          throw error;
        });
      if (response.status !== 401 || again) return response;
      if (key === held) key = null; // expired: a new one, once
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

  async function record(id, show) {
    show("cost", words.waiting);
    const found = await cost(id);
    show("cost", found ? `$${found.cost}` : words.unknown);
    if (found?.used) show("used", found.used);
  }

  async function failure(response) {
    const { error } = await response.json().catch(() => ({}));
    const kind = error?.code ?? error?.type ?? "";
    return new Error([response.status, kind, error?.message].filter(Boolean).join(" "));
  }

  // Shows a stream as it arrives; returns its text.
  async function read(response, started, { part, show }) {
    let seen = false;
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices?.[0];
      const reasoning = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning;
      const piece = choice?.delta?.content;
      if (!seen && (piece || reasoning)) show("first", seconds(started));
      seen ||= Boolean(piece || reasoning);
      if (reasoning) show("thinking", part("thinking").textContent + reasoning);
      if (piece) part("text").textContent += piece;
      if (choice?.finish_reason === "length") show("state", words.cut);
    }
  }

  function seconds(started) {
    return `${((performance.now() - started) / 1000).toFixed(2)} s`;
  }

  async function ask(text, model, thread, view, signal) {
    const { reply, part, show } = view;
    const asked = body(text, model, thread);
    const started = performance.now();
    let failed = false;
    try {
      const response = await call(asked, signal);
      const id = response.headers.get("x-request-id");
      if (id) {
        part("id").href = `/app/requests/${id}`;
        show("id", id);
      }
      if (!response.ok) throw await failure(response);
      await read(response, started, view);
    } catch (error) {
      failed = error.name !== "AbortError";
      show("state", failed ? `${words.failed} ${error.message}` : words.stopped);
      if (failed) part("state").className = "error";
    }
    show("total", seconds(started));
    reply.removeAttribute("aria-busy");
    const content = part("text").textContent;
    if (content && !failed) {
      thread.push({ role: "user", content: text }, { role: "assistant", content });
    }
    if (part("id").textContent) record(part("id").textContent, show);
  }

  async function askAll(text) {
    const chosen = models();
    if (chosen.length > 1 && !compared) threads[1] = [...threads[0]];
    compared = chosen.length > 1;
    add("user").textContent = text;
    const item = add("replies");
    const views = chosen.map((model) => place(item, model));
    running = new AbortController();
    const { signal } = running;
    await Promise.all(chosen.map((model, n) => ask(text, model, threads[n], views[n], signal)));
    running = null;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input("message").value.trim();
    if (!text || running) return;
    input("message").value = "";
    send.setAttribute("aria-disabled", "true"); // not `disabled`, which loses the focus
    stop.hidden = false;
    await askAll(text);
    send.removeAttribute("aria-disabled");
    if (document.activeElement === stop) send.focus();
    stop.hidden = true;
    showCode();
  });
  stop.addEventListener("click", () => running?.abort());
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
  input("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  root.addEventListener("input", showCode);
  root.addEventListener("change", () => {
    const [model, compare] = models();
    const query = new URLSearchParams(compare ? { model, compare } : { model });
    history.replaceState(history.state, "", `?${query}`);
  });
  root.hidden = false;
  showCode();
}
