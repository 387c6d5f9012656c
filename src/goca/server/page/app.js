"use strict";
(() => {
  const MOST_PRESETS = 4;
  const POLL = 300; // milliseconds
  const byId = (id) => document.getElementById(id);
  let image = null; // the file that is segmented
  let models = [];
  let running = null; // AbortController of the request under way

  /** Make an element with properties and children; text is never read as HTML. */
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function say(text, isError = false) {
    byId("status").textContent = text;
    byId("status").classList.toggle("wrong", isError);
  }

  const asSentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}`.replace(/[.]*$/, ".");

  // --- requests ---

  class RefusedError extends Error {}

  async function ask(path, options = {}) {
    const token = sessionStorage.getItem("goca-token");
    const headers = { ...(options.headers || {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new RefusedError("The service does not answer; is it still running?");
    }
    byId("login").hidden = response.status !== 401;
    const answer = await response.json().catch(() => ({ error: `the service answered ${response.status}` }));
    if (!response.ok) throw Object.assign(new RefusedError(answer.error), { status: response.status });
    return answer;
  }

  const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  /** Let a job run and show its progress. */
  async function askJob(path, body, signal) {
    const options = { method: "POST", body: JSON.stringify({ ...body, async: true }), headers: { "Content-Type": "application/json" }, signal };
    let job = await ask(path, options);
    const give_up = () => ask(job.url, { method: "DELETE" }).catch(() => {});
    signal.addEventListener("abort", give_up);
    try {
      while (job.state === "waiting" || job.state === "running") {
        const before = job.before ? `, ${job.before} before it` : "";
        say(job.state === "waiting" ? `Waiting${before}.` : "Drawing.");
        byId("progress").value = job.progress;
        await sleep(POLL);
        signal.throwIfAborted();
        job = await ask(job.url, { signal });
      }
      if (job.error) throw new RefusedError(job.error);
      return await ask(job.result, { signal });
    } finally {
      signal.removeEventListener("abort", give_up);
    }
  }

  /** Do something that can be stopped, with its form's buttons in step. */
  async function during(form, text, withProgress, action) {
    if (running) running.abort();
    const own = (running = new AbortController());
    const [go, stop] = form.querySelectorAll(".go button");
    go.disabled = true;
    stop.hidden = false;
    byId("progress").hidden = !withProgress;
    byId("progress").value = 0;
    const started = performance.now();
    say(text);
    try {
      await action(own.signal);
      say(`Done in ${((performance.now() - started) / 1000).toFixed(1)} s.`);
    } catch (error) {
      if (own.signal.aborted) say("Stopped.");
      else if (error instanceof RefusedError) say(asSentence(error.message), true);
      else throw error;
    } finally {
      if (running === own) running = null;
      go.disabled = false;
      stop.hidden = true;
      byId("progress").hidden = true;
    }
  }

  // --- what is shown ---

  function showResult(payload) {
    const place = make("div");
    byId("result").replaceChildren(place);
    const explorer = GocaExplorer.mount(place, payload);
    if (payload.results.length > 1) explorer.ready.then(() => compareWithSecond(place));
  }

  /** Show the first two of several results side by side at once. */
  function compareWithSecond(place) {
    const select = place.querySelectorAll(".choice select")[1];
    select.value = "1";
    select.dispatchEvent(new Event("change"));
  }

  function showDrawing({ picture, names, colours, steps }, prompt) {
    const canvas = byId("regions");
    byId("drawing").hidden = steps.length === 0;
    if (!steps.length) return;
    byId("drawn").src = picture;
    byId("drawn").alt = `What was drawn of: ${prompt}`;
    byId("legend").replaceChildren(...names.map((name, index) => {
      const swatch = make("span", { className: "swatch" });
      swatch.style.background = `rgb(${colours[index].join(",")})`;
      return make("li", {}, swatch, make("bdi", { textContent: name }));
    }));
    const scrubber = byId("scrubber");
    const show = () => {
      const { grid: [rows, columns], cells, timestep } = steps[scrubber.value];
      const indices = atob(cells);
      canvas.width = columns;
      canvas.height = rows;
      const context = canvas.getContext("2d");
      const pixels = context.createImageData(columns, rows);
      for (let at = 0; at < indices.length; at += 1) pixels.data.set([...colours[indices.charCodeAt(at)], 255], 4 * at);
      context.putImageData(pixels, 0, 0);
      const text = `Step ${Number(scrubber.value) + 1} of ${steps.length}, noise level ${Math.round(timestep)} of 1000`;
      byId("moment").textContent = text;
      canvas.setAttribute("aria-label", `Regions of the words. ${text}`);
      scrubber.setAttribute("aria-valuetext", text);
    };
    scrubber.max = steps.length - 1;
    scrubber.value = steps.length - 1;
    scrubber.oninput = show;
    show();
  }

  function clear() {
    byId("result").replaceChildren();
    byId("drawing").hidden = true;
  }

  // --- the image ---

  function take(file) {
    if (!file || !file.type.startsWith("image/")) {
      say("That is no image file.", true);
      return;
    }
    image = file;
    const preview = byId("preview");
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(file);
    preview.hidden = false;
    byId("drop").classList.add("full");
    byId("invite").textContent = file.name;
    say("");
  }

  async function takeScene(number) {
    const scene = await ask(`/v1/scenes/${number}`);
    const bytes = Uint8Array.from(atob(scene.image.split(",")[1]), (letter) => letter.charCodeAt(0));
    take(new File([bytes], `scene-${number}.png`, { type: "image/png" }));
    byId("classes").value = scene.classes.join(", ");
  }

  async function showExamples() {
    const scenes = await Promise.all([0, 1, 2, 3].map((number) => ask(`/v1/scenes/${number}`)));
    byId("examples").replaceChildren(...scenes.map((scene, number) => {
      const picture = make("img", { src: scene.image, alt: scene.classes.join(", ") });
      const button = make("button", { type: "button", title: "Take this drawn scene" }, picture);
      button.addEventListener("click", () => takeScene(number));
      return button;
    }));
  }

  function listenForImages() {
    byId("file").addEventListener("change", (event) => event.target.files[0] && take(event.target.files[0]));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
    });
  }

  // --- forms ---

  function showModels(answer) {
    models = answer.models;
    for (const select of document.querySelectorAll(".model select")) {
      select.replaceChildren(...models.map(({ name }) => make("option", { value: name, textContent: name })));
      select.addEventListener("change", () => showVocabulary(select.form));
      showVocabulary(select.form);
    }
    const boxes = answer.presets.map((name) => make("label", {}, make("input", { type: "checkbox", value: name }), ` ${name}`));
    byId("presets").append(...boxes, make("p", { className: "hint", textContent: `None: the model's own. Two to ${MOST_PRESETS} are compared by a slider.` }));
  }

  function showVocabulary(form) {
    const model = models.find(({ name }) => name === form.querySelector(".model select").value);
    form.querySelector(".vocabulary").textContent = model.vocabulary ? `This model knows only: ${model.vocabulary.join(", ")}.` : "";
  }

  async function segment(event) {
    event.preventDefault();
    if (!image) return say("Choose an image first.", true);
    const form = byId("segment");
    const body = new FormData();
    const chosen = [...form.querySelectorAll("#presets input:checked")].map(({ value }) => value);
    const fields = { classes: byId("classes").value, background: byId("background").value, preset: chosen.join(","), model: form.querySelector(".model select").value, format: "explorer" };
    body.append("image", image, image.name);
    for (const [name, value] of Object.entries(fields)) if (value) body.append(name, value);
    if (!fields.classes.trim()) return say("Say what is in the image first, for example: cat, grass, sky.", true);
    return during(form, "Segmenting.", false, async (signal) => {
      const answer = await ask("/v1/segment", { method: "POST", body, signal });
      clear();
      showResult(answer.explorer);
    });
  }

  async function generate(event) {
    event.preventDefault();
    const form = byId("generate");
    const prompt = byId("prompt").value.trim();
    if (!prompt) return say("Say what to draw first, for example: a cat, grass, sky.", true);
    const body = { prompt, model: form.querySelector(".model select").value, guidance: byId("guidance").value, scale: byId("scale").valueAsNumber, seed: byId("seed").valueAsNumber, format: "explorer" };
    if (byId("steps").value) body.steps = byId("steps").valueAsNumber;
    return during(form, "Drawing.", true, async (signal) => {
      const answer = await askJob("/v1/generate", body, signal);
      clear();
      showDrawing(answer.drawing, prompt);
      showResult(answer.explorer);
    });
  }

  function showMode() {
    const mode = document.querySelector("[name=mode]:checked").value;
    byId("segment").hidden = mode !== "segment";
    byId("generate").hidden = mode !== "generate";
    clear();
    say("");
  }

  /** Wait until the models are loaded, then fill the forms. */
  async function begin() {
    for (;;) {
      try {
        showModels(await ask("/v1/models"));
        await showExamples();
        say("");
        return;
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error;
        if (error.status !== 503) return say(asSentence(error.message), true);
        say("The models are being loaded.");
        await sleep(1000);
      }
    }
  }

  byId("segment").addEventListener("submit", segment);
  byId("generate").addEventListener("submit", generate);
  byId("login").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("goca-token", byId("token").value);
    begin();
  });
  for (const button of document.querySelectorAll(".stop")) button.addEventListener("click", () => running && running.abort());
  for (const choice of document.querySelectorAll("[name=mode]")) choice.addEventListener("change", showMode);
  listenForImages();
  showMode();
  begin();
})();
