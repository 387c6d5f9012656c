/* The explorer of segmentations: GocaExplorer.mount(element, payload) draws what goca.explorer.payload() gives.
   No dependency, no request. Texts only ever become text nodes. The payload's format: docs/explorer.md. */
"use strict";
(() => {
  const RULES = {
    offset: (background, threshold) => background + threshold,
    max: (background, threshold) => Math.max(background, threshold),
    exact: (background) => background,
    avg: (background, threshold) => (background + threshold) / 2,
    vanilla: (background, threshold) => threshold,
  };
  const SAYS = {
    layer: "What each pixel sees of each word in this layer: its heads, added up by their weights.",
    aggregated: "The layers, added up by their weights.",
    rescaled: "Special tokens left out, the words of each pixel compared with each other, every map stretched to its range.",
    refined: "Self-attention spreads the maps over regions that belong together.",
    labels: "Every pixel has the class with the highest score.",
  };
  const TILE = 176;
  const RANKED = 12;

  // ---------------------------------------------------------------- data

  function bytes(text) {
    const raw = atob(text);
    const out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }

  /* Packed maps: value(map, x, y) = low + (high - low) * byte / 255. */
  function unpack(packed) {
    const [rows, columns] = packed.shape.slice(-2);
    return { rows, columns, count: packed.low.length, low: packed.low, high: packed.high, data: bytes(packed.data) };
  }

  function unpackLabels(text, size) {
    const code = bytes(text);
    const labels = new Uint8Array(size);
    let at = 0;
    let filled = 0;
    const number = () => {
      let value = 0;
      for (let factor = 1; ; factor *= 128) {
        const byte = code[at++];
        value += (byte & 127) * factor;
        if (byte < 128) return value;
      }
    };
    while (at < code.length) {
      const label = number();
      const length = number();
      labels.fill(label, filled, (filled += length));
    }
    return labels;
  }

  /* Where each target pixel lies between two source pixels: bilinear, as the labels are made. */
  function axis(source, target) {
    const first = new Int32Array(target);
    const second = new Int32Array(target);
    const share = new Float32Array(target);
    for (let i = 0; i < target; i++) {
      const place = Math.min(Math.max(((i + 0.5) * source) / target - 0.5, 0), source - 1);
      first[i] = Math.floor(place);
      second[i] = Math.min(first[i] + 1, source - 1);
      share[i] = place - first[i];
    }
    return { first, second, share };
  }

  function resize(maps, index, width, height) {
    const { rows, columns, data } = maps;
    const low = maps.low[index];
    const scale = (maps.high[index] - low) / 255;
    const start = index * rows * columns;
    const across = axis(columns, width);
    const down = axis(rows, height);
    const wide = new Float32Array(rows * width);
    for (let row = 0; row < rows; row++) {
      const from = start + row * columns;
      for (let x = 0; x < width; x++) {
        const a = data[from + across.first[x]];
        const b = data[from + across.second[x]];
        wide[row * width + x] = low + scale * (a + (b - a) * across.share[x]);
      }
    }
    const out = new Float32Array(width * height);
    for (let y = 0; y < height; y++) {
      const top = down.first[y] * width;
      const bottom = down.second[y] * width;
      const share = down.share[y];
      for (let x = 0; x < width; x++) out[y * width + x] = wide[top + x] + (wide[bottom + x] - wide[top + x]) * share;
    }
    return out;
  }

  /* The value at (u, v) of the image, both in [0, 1]. */
  function sample(maps, index, u, v) {
    const { rows, columns, data } = maps;
    const x = Math.min(Math.max(u * columns - 0.5, 0), columns - 1);
    const y = Math.min(Math.max(v * rows - 0.5, 0), rows - 1);
    const [left, top] = [Math.floor(x), Math.floor(y)];
    const [right, bottom] = [Math.min(left + 1, columns - 1), Math.min(top + 1, rows - 1)];
    const start = index * rows * columns;
    const at = (row, column) => data[start + row * columns + column];
    const upper = at(top, left) + (at(top, right) - at(top, left)) * (x - left);
    const lower = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * (x - left);
    return maps.low[index] + ((maps.high[index] - maps.low[index]) * (upper + (lower - upper) * (y - top))) / 255;
  }

  /* One result with its maps, and what is computed from them once. */
  class Result {
    constructor(entry, images) {
      Object.assign(this, entry);
      this.picture = images[entry.image];
      this.stages = entry.stages.map((stage) => ({ ...stage, maps: unpack(stage.maps) }));
      this.layers = entry.layers.map((layer) => ({
        ...layer,
        weights: layer.weights && unpack(layer.weights),
        maps: layer.maps && unpack(layer.maps),
      }));
      this.backgroundAt = this.channels.findIndex((channel) => channel.kind === "background");
      this.rule = this.background && RULES[this.background.rule];
      this.threshold = this.background ? this.background.threshold : 0;
      this.kept = new Map();
    }

    get last() {
      return this.stages.length - 1;
    }

    keep(key, make) {
      if (!this.kept.has(key)) this.kept.set(key, make());
      return this.kept.get(key);
    }

    get given() {
      return this.keep("labels", () => unpackLabels(this.labels, this.picture.width * this.picture.height));
    }

    /* The range of a map's colours: 0 to 1 where the stage's maps are scores, else the map's own. */
    range(stage, index) {
      const maps = this.stages[stage].maps;
      return this.stages[stage].unit ? [0, 1] : [maps.low[index], maps.high[index]];
    }

    /* The highest of the classes at every pixel, and which it is; the background apart where a rule decides on it. */
    best(stage, width, height) {
      return this.keep(`best ${stage} ${width}`, () => {
        const apart = stage === this.last && this.rule ? this.backgroundAt : -1;
        const score = new Float32Array(width * height).fill(-Infinity);
        const index = new Uint8Array(width * height);
        for (let k = 0; k < this.classes; k++) {
          if (k === apart) continue;
          const values = resize(this.stages[stage].maps, k, width, height);
          for (let i = 0; i < values.length; i++) {
            if (values[i] > score[i]) {
              score[i] = values[i];
              index[i] = k;
            }
          }
        }
        const background = apart < 0 ? null : resize(this.stages[stage].maps, apart, width, height);
        return { score, index, background };
      });
    }

    get changed() {
      return Boolean(this.rule) && Math.abs(this.threshold - this.background.threshold) > 1e-9;
    }

    /* The labels of the image at any size: those that were given, or by another threshold of the background. */
    labelsAt(width, height) {
      if (!this.changed) return this.givenAt(width, height);
      const { score, index, background } = this.best(this.last, width, height);
      const given = this.givenAt(width, height);
      const out = index.slice();
      for (let i = 0; i < out.length; i++) {
        if (given[i] >= this.classes) out[i] = given[i];
        else if (this.rule(background[i], this.threshold) > score[i]) out[i] = this.backgroundAt;
      }
      return out;
    }

    /* The labels that were given, at any size; a number that is no class's where a pixel is ignored. */
    givenAt(width, height) {
      const { width: fullWidth, height: fullHeight } = this.picture;
      if (width === fullWidth && height === fullHeight) return this.given;
      return this.keep(`labels ${width}`, () => {
        const out = new Uint8Array(width * height);
        for (let y = 0; y < height; y++) {
          const row = Math.min(fullHeight - 1, Math.floor(((y + 0.5) * fullHeight) / height)) * fullWidth;
          for (let x = 0; x < width; x++) {
            out[y * width + x] = this.given[row + Math.min(fullWidth - 1, Math.floor(((x + 0.5) * fullWidth) / width))];
          }
        }
        return out;
      });
    }

    /* The score at a pixel; that of the background as it is compared with the others. */
    score(stage, index, u, v) {
      const value = sample(this.stages[stage].maps, index, u, v);
      const ruled = stage === this.last && index === this.backgroundAt && this.rule;
      return ruled ? this.rule(value, this.threshold) : value;
    }

    /* The share of the pixels that each class has. */
    areas(width, height) {
      const counts = new Float64Array(this.classes);
      const labels = this.labelsAt(width, height);
      for (let i = 0; i < labels.length; i++) if (labels[i] < this.classes) counts[labels[i]] += 1 / labels.length;
      return counts;
    }
  }

  // ---------------------------------------------------------------- elements

  function h(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(properties || {})) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (key === "class") element.className = value;
      else if (key in element && !key.startsWith("aria-")) element[key] = value;
      else element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const name = (text) => h("bdi", {}, text);
  const css = (colour) => `rgb(${colour.join(" ")})`;

  function swatch(colour) {
    const element = h("span", { class: "swatch", "aria-hidden": "true" });
    element.style.background = css(colour);
    return element;
  }

  function bar(share, colour) {
    const inner = h("span", {});
    inner.style.width = `${Math.round(1000 * Math.min(1, Math.max(0, share))) / 10}%`;
    if (colour) inner.style.background = css(colour);
    return h("span", { class: "bar", "aria-hidden": "true" }, inner);
  }

  function score(value) {
    return (Math.abs(value) < 5e-4 ? 0 : value).toFixed(3);
  }

  function percent(share) {
    return share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
  }

  function canvas(width, height, draw) {
    const element = document.createElement("canvas");
    element.width = width;
    element.height = height;
    const context = element.getContext("2d", { willReadFrequently: true });
    if (draw) draw(context);
    return element;
  }

  function download(file, blob) {
    const link = h("a", { href: URL.createObjectURL(blob), download: file });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 30000);
  }

  function capital(text) {
    return text.charAt(0).toUpperCase() + text.slice(1);
  }

  function slug(text) {
    return text.replace(/[^\p{L}\p{N}_-]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "class";
  }

  // ---------------------------------------------------------------- the view

  class Explorer {
    constructor(element, payload, level) {
      this.payload = payload;
      this.level = level;
      this.heat = bytes(payload.heat);
      this.images = payload.images.map((image) => ({ ...image }));
      this.results = payload.results.map((entry) => new Result(entry, this.images));
      this.first = 0;
      this.second = -1;
      this.stage = this.results[0].last;
      this.chosen = -1; // a channel, or -1 for all classes
      this.opacity = 0.6;
      this.hidden = 0; // scores below it are not coloured
      this.split = 0.5;
      this.pixel = null; // [u, v]
      this.element = element;
      this.id = `goca-${Math.random().toString(36).slice(2)}`;
      element.classList.add("goca-explorer");
      this.ready = Promise.all(this.images.map((image) => this.load(image))).then(() => {
        this.build();
        this.show();
      });
    }

    async load(image) {
      const picture = new Image();
      picture.src = image.uri;
      await picture.decode();
      [image.shownWidth, image.shownHeight] = [picture.naturalWidth, picture.naturalHeight];
      image.colour = canvas(image.shownWidth, image.shownHeight, (context) => context.drawImage(picture, 0, 0));
      image.grey = canvas(image.shownWidth, image.shownHeight, (context) => {
        const pixels = image.colour.getContext("2d").getImageData(0, 0, image.shownWidth, image.shownHeight);
        for (let i = 0; i < pixels.data.length; i += 4) {
          const light = 0.299 * pixels.data[i] + 0.587 * pixels.data[i + 1] + 0.114 * pixels.data[i + 2];
          pixels.data[i] = pixels.data[i + 1] = pixels.data[i + 2] = light;
        }
        context.putImageData(pixels, 0, 0);
      });
    }

    get result() {
      return this.results[this.first];
    }

    /* The stage of another result that corresponds to the one shown. */
    counterpart(other) {
      const { kind, name: called } = this.result.stages[this.stage];
      const same = other.stages.findIndex((stage) => stage.kind === kind && stage.name === called);
      return same >= 0 ? same : other.last;
    }

    // ------------------------------------------------------------ building

    build() {
      const { payload } = this;
      const several = this.results.length > 1;
      this.heading = this.title(0, name(payload.title));
      this.about = h("p", { class: "about" });
      this.view = h("canvas", {
        class: "view",
        tabIndex: 0,
        role: "application",
        "aria-roledescription": "picture to explore",
        "aria-describedby": `${this.id}-help`,
        onpointermove: (event) => this.point(event),
        onpointerdown: (event) => this.point(event),
        onkeydown: (event) => this.key(event),
      });
      this.marker = h("span", { class: "marker", hidden: true, "aria-hidden": "true" });
      this.divider = h("span", { class: "divider", hidden: true, "aria-hidden": "true" });
      this.frame = h("div", { class: "frame" }, this.view, this.divider, this.marker);
      this.splitter = this.range("Divide", this.split, (value) => {
        this.split = value;
        this.show();
      });
      this.splitter.row.hidden = true;
      this.splitter.row.classList.add("splitter");
      this.steps = h("div", { class: "steps", role: "radiogroup", "aria-label": "Stage" });
      this.says = h("p", { class: "says" });
      const stage = h("figure", {}, this.frame, this.splitter.row, h("figcaption", {}, this.steps, this.says));

      this.where = this.title(1);
      this.where.classList.add("where");
      this.ranking = h("ol", { class: "ranking" });
      this.status = h("p", { class: "unseen", role: "status", "aria-live": "polite" });
      const help = h(
        "p",
        { class: "quiet", id: `${this.id}-help` },
        "Point at the picture, or use the arrow keys on it, with Shift in larger steps.",
        this.results.some((result) => result.last > 0) ? " Keys [\u00a0and\u00a0] step through the stages." : null,
      );
      this.opacityRow = this.range("Opacity", this.opacity, (value) => {
        this.opacity = value;
        this.show();
      });
      this.hiddenRow = this.range("Hide scores below", this.hidden, (value) => {
        this.hidden = value;
        this.show();
      });
      this.thresholdRow = this.range("Background threshold", 0, (value) => {
        for (const result of this.results) result.threshold = value;
        this.show();
      });
      const controls = h("div", { class: "controls" }, this.opacityRow.row, this.hiddenRow.row, this.thresholdRow.row);
      if (several) controls.prepend(this.chooser("Result", false), this.chooser("Compare with", true));
      this.noteBox = h("div", { class: "notes" });
      const saves = h(
        "div",
        { class: "saves" },
        this.button("Overlay", () => this.saveOverlay(), "Download the picture as shown, PNG"),
        this.button("Labels", () => this.saveLabels(), "Download the labels in the classes' colours, PNG"),
        this.button("JSON", () => this.saveJson(), "Download classes, areas and run lengths, JSON"),
      );
      const aside = h(
        "aside",
        { "aria-label": "Words and settings" },
        h("section", { class: "words" }, this.where, this.ranking, help, this.status),
        controls,
        h("section", {}, this.title(1, "Download"), saves),
        this.noteBox,
      );

      this.tiles = h("div", { class: "tiles" });
      this.tilesHeading = this.title(1);
      this.headBox = h("section", { class: "heads" });
      this.facts = h("dl", {});
      this.element.replaceChildren(
        h("header", {}, this.heading, this.about),
        h("div", { class: "main" }, stage, aside),
        h("section", {}, this.tilesHeading, this.tiles),
        this.headBox,
        h("details", {}, h("summary", {}, "Everything that this depends on"), this.facts),
      );
      this.renew();
    }

    /* A heading so many levels below the explorer's own. */
    title(below, ...children) {
      return h(`h${this.level + below}`, { class: below ? "part" : "title" }, ...children);
    }

    range(label, value, change) {
      const output = h("output", {}, value.toFixed(2));
      const input = h("input", {
        type: "range",
        min: 0,
        max: 1,
        step: 0.01,
        value,
        oninput: () => {
          output.textContent = Number(input.value).toFixed(2);
          change(Number(input.value));
        },
      });
      const row = h("label", { class: "range" }, h("span", {}, label), input, output);
      return { row, input, output };
    }

    chooser(label, optional) {
      const select = h("select", {
        onchange: () => {
          if (optional) this.second = Number(select.value);
          else this.choose(Number(select.value));
          this.show();
        },
      });
      if (optional) select.append(h("option", { value: -1 }, "nothing"));
      this.results.forEach((result, at) => select.append(h("option", { value: at }, result.name)));
      return h("label", { class: "choice" }, h("span", {}, label), select);
    }

    button(label, action, title) {
      return h("button", { type: "button", title, onclick: action }, label);
    }

    choose(at) {
      const stage = this.stage;
      const next = this.counterpart(this.results[at]);
      this.first = at;
      this.stage = stage === undefined ? this.results[at].last : next;
      if (this.chosen >= this.result.channels.length) this.chosen = -1;
      this.renew();
    }

    /* What depends on the result, but not on the stage. */
    renew() {
      const { result } = this;
      const image = result.picture;
      const parts = [result.name, result.model, `${image.width} × ${image.height} pixels`].filter(Boolean);
      this.about.replaceChildren(...parts.flatMap((part, at) => [at ? " · " : "", name(part)]));
      if (result.text) this.about.append(h("span", { class: "text" }, name(result.text)));
      this.view.width = image.shownWidth;
      this.view.height = image.shownHeight;
      this.frame.style.setProperty("--aspect", image.shownWidth / image.shownHeight);
      this.view.classList.toggle("coarse", image.shownWidth < 400);
      this.renewSteps();
      this.renewTiles();
      this.noteBox.replaceChildren(...result.notes.map((note) => h("p", { class: "quiet" }, note)));
      const facts = [...this.payload.facts, ...(result.text ? [["text", result.text]] : []), ...result.settings];
      this.facts.replaceChildren(...facts.flatMap(([key, value]) => [h("dt", {}, name(key)), h("dd", {}, name(value))]));
      this.thresholdRow.row.hidden = !result.rule;
      this.thresholdRow.input.value = result.threshold;
      this.thresholdRow.output.textContent = result.threshold.toFixed(2);
    }

    renewSteps() {
      const { result } = this;
      const top = Math.max(...result.layers.map((layer) => layer.weight), 1e-9);
      this.radios = result.stages.map((stage, at) => {
        const input = h("input", {
          type: "radio",
          name: `${this.id}-stage`,
          onchange: () => {
            this.stage = at;
            this.show();
          },
        });
        const isLayer = stage.kind === "layer";
        const column = isLayer ? h("span", { class: "column", "aria-hidden": "true" }, h("span", {})) : null;
        if (isLayer) column.firstChild.style.height = `${Math.max(2, (100 * Math.max(0, stage.weight)) / top)}%`;
        const label = isLayer ? `Layer ${stage.name}, weight ${stage.weight.toFixed(3)}` : stage.name;
        input.setAttribute("aria-label", label);
        const text = isLayer ? String(at + 1) : stage.name;
        return h("label", { class: `step ${stage.kind}`, title: label }, input, column, h("span", { class: "mark" }, text));
      });
      this.steps.hidden = result.last === 0;
      const layers = this.radios.filter((radio) => radio.classList.contains("layer"));
      const rest = this.radios.filter((radio) => !radio.classList.contains("layer"));
      const strip = h("div", { class: "layers" }, ...layers);
      const caption = h("span", { class: "quiet" }, "Layers, by weight");
      this.steps.replaceChildren(...(layers.length ? [h("div", { class: "group" }, strip, caption)] : []));
      this.steps.append(h("div", { class: "stages" }, ...rest));
    }

    renewTiles() {
      const { result } = this;
      this.tileList = result.channels.map((channel, at) => {
        const picture = canvas(TILE, Math.max(24, Math.round((TILE * result.picture.height) / result.picture.width)));
        picture.setAttribute("aria-hidden", "true");
        const share = h("span", { class: "share" });
        const toggle = h(
          "button",
          {
            type: "button",
            class: "tile",
            "aria-pressed": "false",
            onclick: () => {
              this.chosen = this.chosen === at ? -1 : at;
              this.show();
            },
          },
          picture,
          h("span", { class: "caption" }, swatch(channel.colour), name(channel.name)),
        );
        const save =
          at < result.classes
            ? h(
                "button",
                { type: "button", class: "save", onclick: () => this.saveMask(at) },
                "mask",
                h("span", { class: "unseen" }, " of ", name(channel.name)),
                " ↓",
              )
            : null;
        return { box: h("div", { class: "cell" }, toggle, h("div", { class: "under" }, share, save)), toggle, picture, share };
      });
      this.tiles.replaceChildren(...this.tileList.map((tile) => tile.box));
    }

    // ------------------------------------------------------------ drawing

    show() {
      if (this.frameAsked) return;
      this.frameAsked = requestAnimationFrame(() => {
        this.frameAsked = 0;
        this.draw();
      });
    }

    draw() {
      const { result } = this;
      if (this.chosen >= result.stages[this.stage].maps.count) this.chosen = -1;
      this.radios.forEach((radio, at) => (radio.querySelector("input").checked = at === this.stage));
      this.drawView();
      this.drawSays();
      this.drawTiles();
      this.drawHeads();
      this.drawRanking();
    }

    drawView() {
      const { result, view } = this;
      const context = view.getContext("2d", { willReadFrequently: true });
      const paint = (which, stage, from, to) => {
        context.save();
        context.beginPath();
        context.rect(from * view.width, 0, (to - from) * view.width, view.height);
        context.clip();
        context.drawImage(this.chosen < 0 ? which.picture.colour : which.picture.grey, 0, 0, view.width, view.height);
        const layer = this.overlay(which, stage);
        if (layer) {
          context.globalAlpha = this.opacity;
          context.drawImage(layer, 0, 0, view.width, view.height);
        }
        context.restore();
      };
      const other = this.second >= 0 && this.second !== this.first ? this.results[this.second] : null;
      paint(result, this.stage, 0, other ? this.split : 1);
      if (other) paint(other, this.counterpart(other), this.split, 1);
      this.splitter.row.hidden = this.divider.hidden = !other;
      this.divider.style.left = `${100 * this.split}%`;
      if (other) this.splitter.row.firstChild.textContent = `${result.name || "left"} | ${other.name || "right"}`;
      view.setAttribute("aria-label", `${this.payload.title}, stage ${result.stages[this.stage].name}`);
    }

    /* Colours over the picture: all classes, or the heat of one channel. */
    overlay(result, stage) {
      const { shownWidth: width, shownHeight: height } = result.picture;
      let channel = this.chosen;
      if (channel >= 0 && result !== this.result) {
        const wanted = this.result.channels[channel].name;
        channel = result.channels.findIndex((each) => each.name === wanted);
        if (channel < 0 || channel >= result.stages[stage].maps.count) return null;
      }
      const pixels = new ImageData(width, height);
      if (channel >= 0) this.paintHeat(pixels.data, resize(result.stages[stage].maps, channel, width, height), result.range(stage, channel));
      else this.paintClasses(pixels.data, result, stage, width, height);
      return canvas(width, height, (context) => context.putImageData(pixels, 0, 0));
    }

    paintHeat(data, values, [low, high]) {
      const scale = high > low ? 1 / (high - low) : 0;
      for (let i = 0; i < values.length; i++) {
        const value = Math.min(1, Math.max(0, (values[i] - low) * scale));
        const at = 3 * Math.round(255 * value);
        data[4 * i] = this.heat[at];
        data[4 * i + 1] = this.heat[at + 1];
        data[4 * i + 2] = this.heat[at + 2];
        data[4 * i + 3] = value < this.hidden ? 0 : 255;
      }
    }

    paintClasses(data, result, stage, width, height) {
      const final = stage === result.last;
      const labels = final ? result.labelsAt(width, height) : result.best(stage, width, height).index;
      const scores = this.hidden > 0 ? result.best(stage, width, height).score : null;
      const ranges = result.channels.slice(0, result.classes).map((_, at) => result.range(stage, at));
      for (let i = 0; i < labels.length; i++) {
        if (labels[i] >= result.classes) continue;
        const { colour } = result.channels[labels[i]];
        data[4 * i] = colour[0];
        data[4 * i + 1] = colour[1];
        data[4 * i + 2] = colour[2];
        let seen = true;
        if (scores) {
          const [low, high] = ranges[labels[i]];
          const ruled = final && result.rule && labels[i] === result.backgroundAt;
          seen = ruled || (scores[i] - low) / (high - low || 1) >= this.hidden;
        }
        data[4 * i + 3] = seen ? 255 : 0;
      }
    }

    drawSays() {
      const { result } = this;
      const stage = result.stages[this.stage];
      const title = stage.kind === "layer" ? `Layer ${this.stage + 1}, ${stage.name}.` : `${capital(stage.name)}.`;
      const weight = stage.kind === "layer" ? ` Weight ${stage.weight.toFixed(3)} of 1.` : "";
      const colours =
        this.chosen < 0 ? " In colours: the class that is highest at each pixel." : this.heatSays(stage, this.chosen);
      this.says.replaceChildren(h("b", {}, name(title)), " ", (SAYS[stage.kind] || "") + weight + colours);
    }

    heatSays(stage, channel) {
      const [low, high] = this.result.range(this.stage, channel);
      return ` In colours: one map, from ${score(low)} (dark) to ${score(high)} (light).`;
    }

    drawTiles() {
      const { result } = this;
      const stage = result.stages[this.stage];
      const final = this.stage === result.last;
      const areas = result.areas(...this.small());
      this.tilesHeading.textContent = final ? "One mask a class" : "One map a word";
      this.tileList.forEach((tile, at) => {
        tile.box.hidden = at >= stage.maps.count;
        if (tile.box.hidden) return;
        tile.toggle.setAttribute("aria-pressed", String(this.chosen === at));
        if (final) tile.share.textContent = percent(areas[at]);
        else tile.share.textContent = `${score(result.range(this.stage, at)[0])} – ${score(result.range(this.stage, at)[1])}`;
        const context = tile.picture.getContext("2d");
        if (final) this.drawCutout(context, at);
        else this.drawSmallHeat(context, result.picture, stage.maps, at, result.range(this.stage, at));
      });
    }

    small() {
      const { shownWidth, shownHeight } = this.result.picture;
      const factor = Math.min(1, 320 / Math.max(shownWidth, shownHeight));
      return [Math.max(1, Math.round(shownWidth * factor)), Math.max(1, Math.round(shownHeight * factor))];
    }

    drawCutout(context, index) {
      const [width, height] = this.small();
      const labels = this.result.labelsAt(width, height);
      const pixels = new ImageData(width, height);
      for (let i = 0; i < labels.length; i++) pixels.data[4 * i + 3] = labels[i] === index ? 255 : 0;
      const { width: wide, height: high } = context.canvas;
      const mask = canvas(width, height, (each) => {
        each.putImageData(pixels, 0, 0);
        each.globalCompositeOperation = "source-in";
        each.drawImage(this.result.picture.colour, 0, 0, width, height);
      });
      context.clearRect(0, 0, wide, high);
      context.globalAlpha = 0.16;
      context.drawImage(this.result.picture.grey, 0, 0, wide, high);
      context.globalAlpha = 1;
      context.drawImage(mask, 0, 0, wide, high);
    }

    drawSmallHeat(context, picture, maps, index, range) {
      const { width, height } = context.canvas;
      const pixels = new ImageData(width, height);
      const hidden = this.hidden;
      this.hidden = 0;
      this.paintHeat(pixels.data, resize(maps, index, width, height), range);
      this.hidden = hidden;
      context.drawImage(picture.grey, 0, 0, width, height);
      context.globalAlpha = 0.8;
      context.drawImage(
        canvas(width, height, (each) => each.putImageData(pixels, 0, 0)),
        0,
        0,
      );
      context.globalAlpha = 1;
    }

    /* Blue below 0, white at 0, red above: the weights of a head over the pixels. */
    drawWeights(context, maps, index, top) {
      const { width, height } = context.canvas;
      const pixels = new ImageData(width, height);
      const values = resize(maps, index, width, height);
      for (let i = 0; i < values.length; i++) {
        const value = Math.max(-1, Math.min(1, values[i] / top));
        const full = value < 0 ? [33, 102, 172] : [178, 24, 43];
        for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 247 + (full[c] - 247) * Math.abs(value);
        pixels.data[4 * i + 3] = 255;
      }
      context.putImageData(pixels, 0, 0);
    }

    drawHeads() {
      const { result } = this;
      const heaviest = result.layers.reduce((best, layer, at) => (layer.weight > result.layers[best].weight ? at : best), 0);
      const at = this.stage < result.layers.length ? this.stage : heaviest;
      const layer = result.layers[at];
      const word = Math.min(Math.max(0, this.chosen), result.classes - 1);
      const key = `${this.first} ${at} ${word}`;
      if (this.headsShown === key) return;
      this.headsShown = key;
      this.headBox.hidden = !layer;
      if (!layer) return;
      const heading = this.title(1, `Heads of layer ${at + 1}, `, name(layer.name));
      const told = layer.maps
        ? h("p", { class: "quiet" }, "Left: weight at each pixel (blue below 0, red above). Right: what the head sees of ", name(result.channels[word].name), ".")
        : h("p", { class: "quiet" }, layer.weights ? "Weight at each pixel (blue below 0, red above)." : "Mean weights.");
      const top = Math.max(...layer.heads.map(Math.abs), 1e-9);
      const cards = layer.heads.map((weight, head) => this.headCard(result, layer, head, word, weight, top));
      this.headBox.replaceChildren(heading, told, h("div", { class: "cards" }, ...cards));
    }

    headCard(result, layer, head, word, weight, top) {
      const side = [84, Math.max(16, Math.round((84 * result.picture.height) / result.picture.width))];
      const pictures = [];
      if (layer.weights) {
        const span = Math.max(...layer.weights.high.map(Math.abs), ...layer.weights.low.map(Math.abs), 1e-9);
        pictures.push(canvas(...side, (context) => this.drawWeights(context, layer.weights, head, span)));
      }
      if (layer.maps) {
        const index = head * result.classes + word;
        const range = [layer.maps.low[index], layer.maps.high[index]];
        pictures.push(canvas(...side, (context) => this.drawSmallHeat(context, result.picture, layer.maps, index, range)));
      }
      for (const each of pictures) each.setAttribute("aria-hidden", "true");
      return h(
        "div",
        { class: "card" },
        h("div", { class: "pair" }, ...pictures),
        h("div", { class: "caption" }, `head ${head + 1}`, bar(Math.abs(weight) / top), h("span", { class: "share" }, weight.toFixed(3))),
      );
    }

    // ------------------------------------------------------------ pixels

    /* The result on whose side of the divider the pixel lies. */
    under() {
      const other = this.second >= 0 && this.second !== this.first;
      return other && this.pixel && this.pixel[0] >= this.split ? this.results[this.second] : this.result;
    }

    point(event) {
      const box = this.view.getBoundingClientRect();
      if (!box.width) return;
      const clamp = (value) => Math.min(0.999999, Math.max(0, value));
      this.pixel = [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
      this.showPixel();
    }

    key(event) {
      const { width, height } = this.result.picture;
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "[" || event.key === "]") {
        const step = event.key === "]" ? 1 : -1;
        this.stage = Math.min(this.result.last, Math.max(0, this.stage + step));
        this.show();
      } else if (moves[event.key]) {
        const step = Math.max(1, Math.round(Math.max(width, height) / (event.shiftKey ? 10 : 100)));
        const [u, v] = this.pixel || [0.5, 0.5];
        const [x, y] = [Math.floor(u * width), Math.floor(v * height)];
        const [right, down] = this.pixel ? moves[event.key] : [0, 0];
        const place = (value, size) => (Math.min(size - 1, Math.max(0, value)) + 0.5) / size;
        this.pixel = [place(x + right * step, width), place(y + down * step, height)];
        this.showPixel();
      } else return;
      event.preventDefault();
    }

    showPixel() {
      if (this.pixelAsked) return;
      this.pixelAsked = requestAnimationFrame(() => {
        this.pixelAsked = 0;
        this.drawRanking();
      });
    }

    drawRanking() {
      const result = this.under();
      const stage = result === this.result ? this.stage : this.counterpart(result);
      const { maps, unit } = result.stages[stage];
      this.marker.hidden = !this.pixel;
      const areas = this.pixel ? null : result.areas(...this.small());
      const rows = result.channels.slice(0, this.pixel ? maps.count : result.classes).map((channel, at) => ({
        channel,
        at,
        value: this.pixel ? result.score(stage, at, ...this.pixel) : areas[at],
      }));
      rows.sort((a, b) => b.value - a.value);
      const top = unit || !this.pixel ? 1 : Math.max(rows[0].value, 1e-9);
      const shown = rows.slice(0, RANKED);
      this.ranking.replaceChildren(
        ...shown.map(({ channel, value }) =>
          h(
            "li",
            {},
            swatch(channel.colour),
            h("span", { class: "word" }, name(channel.name)),
            bar(value / top, channel.colour),
            h("span", { class: "share" }, this.pixel ? score(value) : percent(value)),
          ),
        ),
      );
      if (!this.pixel) {
        this.where.textContent = "Classes, by area";
        return;
      }
      const { width, height } = result.picture;
      const [x, y] = [Math.floor(this.pixel[0] * width), Math.floor(this.pixel[1] * height)];
      this.marker.style.left = `${100 * this.pixel[0]}%`;
      this.marker.style.top = `${100 * this.pixel[1]}%`;
      const label = result.given[y * width + x];
      const called = label < result.classes ? name(result.channels[label].name) : "ignored";
      this.where.replaceChildren(`Pixel ${x}, ${y}`, ...(result.changed ? [] : [": ", called]));
      clearTimeout(this.saying);
      this.saying = setTimeout(() => {
        const words = shown.slice(0, 3).map((row) => `${row.channel.name} ${score(row.value)}`);
        this.status.textContent = `Pixel ${x}, ${y}, ${result.stages[stage].name}: ${words.join(", ")}`;
      }, 250);
    }

    // ------------------------------------------------------------ files

    get stem() {
      const { result } = this;
      return slug([this.payload.title, result.name].filter(Boolean).join("-"));
    }

    saveCanvas(file, picture) {
      picture.toBlob((blob) => download(file, blob), "image/png");
    }

    /* The labels at the image's own size in colours, transparent where there is none. */
    savePixels(file, colour) {
      const { width, height } = this.result.picture;
      const labels = this.result.labelsAt(width, height);
      const pixels = new ImageData(width, height);
      for (let i = 0; i < labels.length; i++) {
        const found = colour(labels[i]);
        if (found) pixels.data.set([...found, 255], 4 * i);
      }
      this.saveCanvas(
        file,
        canvas(width, height, (context) => context.putImageData(pixels, 0, 0)),
      );
    }

    saveMask(index) {
      const [on, off] = [
        [255, 255, 255],
        [0, 0, 0],
      ];
      const file = `${this.stem}_mask_${slug(this.result.channels[index].name)}.png`;
      this.savePixels(file, (label) => (label === index ? on : off));
    }

    saveLabels() {
      this.savePixels(`${this.stem}_labels.png`, (label) => (label < this.result.classes ? this.result.channels[label].colour : null));
    }

    saveOverlay() {
      this.saveCanvas(`${this.stem}_overlay.png`, this.view);
    }

    /* As Segmentation.to_dict, the run lengths uncompressed: COCO's column-major counts, the first of zeros. */
    saveJson() {
      const { result } = this;
      const { width, height } = result.picture;
      const labels = result.labelsAt(width, height);
      const classes = result.channels.slice(0, result.classes).map((channel, index) => {
        const counts = [];
        let [current, length, pixels] = [0, 0, 0];
        for (let x = 0; x < width; x++) {
          for (let y = 0; y < height; y++) {
            const bit = labels[y * width + x] === index ? 1 : 0;
            pixels += bit;
            if (bit !== current) {
              counts.push(length);
              [current, length] = [bit, 0];
            }
            length++;
          }
        }
        counts.push(length);
        const rle = { size: [height, width], counts };
        return { name: channel.name, index, colour: channel.colour, area: pixels / labels.length, pixels, rle };
      });
      const content = {
        image: { width, height },
        classes,
        notes: result.notes,
        model: result.model,
        text: result.text,
        settings: Object.fromEntries(result.settings),
        threshold: result.rule ? result.threshold : null,
      };
      download(`${this.stem}.json`, new Blob([JSON.stringify(content, null, 2) + "\n"], { type: "application/json" }));
    }
  }

  globalThis.GocaExplorer = {
    /* Draw a payload into an element, in place of what is there; `ready` of the answer resolves when it is shown.
       The level is that of its heading in the page. */
    mount: (element, payload, level = 1) => new Explorer(element, payload, level),
  };
})();
