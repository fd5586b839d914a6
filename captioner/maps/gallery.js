"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const make = (tag, text, kind) => Object.assign(document.createElement(tag), { textContent: text ?? "", className: kind ?? "" });
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const page = JSON.parse(find("data").textContent);
  const colours = bytes(page.colours), cards = [...document.querySelectorAll(".card")];
  const searched = cards.map((card) => (card.textContent + " " + (card.dataset.also ?? "")).toLowerCase());
  const stage = find("stage"), photo = find("photo"), canvas = find("heat"), viewer = find("viewer"), slider = find("slider"), play = find("play");
  const entries = new Map(page.entries.map((entry, number) => [number, entry]));
  let current = -1, entry = null, kind = 0, pinned = 0, shown = 0, first = 0, timer = 0;

  // The same smooth interpolation as the contact sheets: cubic B-spline, mirrored about the outermost cells' centres, constant beyond.
  const spline = (far) => (far < 1 ? 2 / 3 - far * far + (far * far * far) / 2 : far < 2 ? (2 - far) ** 3 / 6 : 0);
  function taps(low, high, cells, pixels) {
    const lines = [];
    for (let pixel = 0; pixel < pixels; pixel++) {
      if (pixel + 0.5 < low || pixel + 0.5 > high) { lines.push(null); continue; }
      const at = Math.min(Math.max(((pixel + 0.5 - low) / (high - low)) * cells - 0.5, 0), cells - 1), line = [];
      for (let tap = Math.floor(at) - 1; tap <= Math.floor(at) + 2; tap++) {
        const period = Math.max(2 * (cells - 1), 1), folded = Math.abs(tap) % period;
        line.push([cells > 1 ? Math.min(folded, period - folded) : 0, spline(Math.abs(at - tap))]);
      }
      lines.push(line);
    }
    return lines;
  }

  function interpolated(map, word, width, height, box) {
    const { rows, cols } = map, size = rows * cols, from = word * size, scale = map.peaks[word] / 255;
    const down = taps(box[1], box[3], rows, height), across = taps(box[0], box[2], cols, width), found = new Float32Array(width * height);
    for (let y = 0; y < height; y++) {
      if (!down[y]) { found.fill(-1, y * width, (y + 1) * width); continue; }
      const line = new Float32Array(cols);
      for (const [row, weight] of down[y]) for (let col = 0; col < cols; col++) line[col] += weight * scale * map.bytes[from + row * cols + col];
      for (let x = 0; x < width; x++) {
        let sum = across[x] ? 0 : -1;
        if (across[x]) for (const [col, weight] of across[x]) sum += weight * line[col];
        found[y * width + x] = sum;
      }
    }
    return found;
  }

  function draw(word) {
    const ratio = Math.min(devicePixelRatio || 1, 2), fit = Math.min(1, 900 / Math.max(stage.clientWidth, stage.clientHeight, 1));
    const width = Math.max(Math.round(stage.clientWidth * ratio * fit), 2), height = Math.max(Math.round(stage.clientHeight * ratio * fit), 2);
    const brush = canvas.getContext("2d"), map = entry.maps[kind];
    canvas.width = width; canvas.height = height;
    stage.classList.toggle("looking", word > 0);
    if (!word || !map) return;
    map.bytes ??= bytes(map.data);
    const box = entry.box.map((side, axis) => (side * (axis % 2 ? height / entry.height : width / entry.width)));
    const found = interpolated(map, word - 1, width, height, box), picture = brush.createImageData(width, height);
    const grey = getComputedStyle(document.documentElement).getPropertyValue("--unseen").split(",").map(Number);
    let peak = page.full / (map.rows * map.cols);
    for (const value of found) if (value > peak) peak = value;
    for (let i = 0, at = 0; i < found.length; i++, at += 4) {
      if (found[i] < 0) { picture.data.set([...grey, 200], at); continue; }
      const step = Math.min(Math.round((255 * found[i]) / peak), 255), strength = step / 255;
      picture.data[at] = colours[3 * step]; picture.data[at + 1] = colours[3 * step + 1]; picture.data[at + 2] = colours[3 * step + 2];
      picture.data[at + 3] = 255 * (page.opacity[0] + (page.opacity[1] - page.opacity[0]) * strength);
    }
    brush.putImageData(picture, 0, 0);
  }

  function place(map, word) {
    const size = map.rows * map.cols, part = map.bytes.subarray((word - 1) * size, word * size);
    let top = 0;
    part.forEach((value, cell) => { if (value > part[top]) top = cell; });
    const [left, high, right, low] = entry.box, y = (high + ((Math.floor(top / map.cols) + 0.5) / map.rows) * (low - high)) / entry.height;
    const x = (left + (((top % map.cols) + 0.5) / map.cols) * (right - left)) / entry.width;
    const where = [["upper left", "top", "upper right"], ["left", "centre", "right"], ["lower left", "bottom", "lower right"]];
    return where[Math.min(Math.floor(y * 3), 2)][Math.min(Math.floor(x * 3), 2)];
  }

  const percent = (share) => (share < 0.005 ? "<1 %" : share > 0.995 && share < 1 ? ">99 %" : Math.round(100 * share) + " %");
  function say(word) {
    if (!word) return entry.words.length ? "Point at a word to see where the model looked" : "The model said nothing";
    const parts = [`${word} of ${entry.words.length}: ${entry.words[word - 1]}`];
    if (entry.sure?.[word - 1] != null) parts.push(`probability ${percent(entry.sure[word - 1])}`);
    if (entry.maps[kind]) parts.push(`most at ${place(entry.maps[kind], word)}`);
    for (const name of ["gate", "sentinel"]) if (entry[name]?.[word - 1] != null) parts.push(`${name} ${entry[name][word - 1].toFixed(2)}`);
    return parts.join(" · ");
  }

  function show(word) {
    shown = word;
    draw(word);
    [...find("words").children].forEach((button, number) => {
      button.classList.toggle("shown", number + 1 === word);
      button.setAttribute("aria-pressed", String(number + 1 === pinned));
    });
    slider.value = word;
    slider.setAttribute("aria-valuetext", word ? entry.words[word - 1] : "the photo alone");
    find("now").textContent = find("spoken").textContent = say(word);
  }

  function pin(word) { pinned = word; show(word); }
  function stop() { clearInterval(timer); timer = 0; play.textContent = "▶"; play.setAttribute("aria-label", "Play the caption"); }
  function start() {
    stop();
    if (!entry.words.length) return;
    play.textContent = "❚❚"; play.setAttribute("aria-label", "Pause");
    pin(shown >= entry.words.length ? 1 : shown + 1);
    timer = setInterval(() => (shown >= entry.words.length ? (stop(), pin(0)) : pin(shown + 1)), 900);
  }

  function lists() {
    const words = find("words"), facts = find("facts");
    words.replaceChildren(...entry.words.map((text, number) => {
      const button = make("button", text, "word"), word = number + 1;
      button.type = "button";
      button.style.setProperty("--sure", entry.sure?.[number] ?? 0);
      button.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch" && !timer) show(word); });
      button.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch" && !timer) show(pinned); });
      button.addEventListener("focus", () => { if (!timer && button.matches(":focus-visible")) show(word); });
      button.addEventListener("click", () => { stop(); pin(pinned === word ? 0 : word); });
      return button;
    }));
    facts.replaceChildren(...entry.facts.map(([name, value]) => { const pair = make("div"); pair.append(make("dt", name), make("dd", value)); return pair; }));
    find("otherlist").replaceChildren(...entry.alternatives.map(([text, note]) => {
      const item = make("li", text || "(no words)"); if (note) item.append(" ", make("span", note, "quiet")); return item;
    }));
    find("others").hidden = !entry.alternatives.length;
    find("truthlist").replaceChildren(...entry.references.map((text) => make("li", text)));
    find("truth").hidden = !entry.references.length;
    find("kinds").replaceChildren(...entry.maps.map((map, number) => {
      const button = make("button", map.name); button.type = "button"; button.setAttribute("aria-pressed", String(number === kind));
      button.addEventListener("click", () => { kind = number; lists(); show(shown); find("kinds").children[number].focus(); });
      return button;
    }));
    find("kinds").hidden = entry.maps.length < 2;
    slider.max = Math.max(entry.words.length, 1);
    slider.disabled = play.disabled = !entry.words.length;
  }

  function fit() {
    if (!entry) return;
    const wide = matchMedia("(min-width: 900px)").matches, room = stage.parentElement;
    const width = room.clientWidth, height = wide ? room.clientHeight : innerHeight * 0.5, aspect = entry.width / entry.height;
    const across = Math.max(Math.min(width, height * aspect, Math.max(1.6 * entry.width, 720)), 40);
    stage.style.width = `${across}px`; stage.style.height = `${across / aspect}px`;
    draw(shown);
  }

  function ready(number) {
    entry = entries.get(number);
    kind = shown = 0;
    find("caption").textContent = entry.caption; find("path").textContent = entry.path;
    photo.src = entry.src; photo.alt = entry.caption;
    lists(); fit(); pin(Math.min(first, entry.words.length));
  }

  function open(number, word = 0) {
    stop();
    current = number; first = word;
    const near = visible(), at = near.indexOf(number);
    find("back").disabled = at <= 0; find("forth").disabled = at < 0 || at >= near.length - 1;
    entry = null; slider.disabled = play.disabled = true;
    if (!viewer.open) viewer.showModal();
    history.replaceState(null, "", "#" + (number + 1));
    if (entries.get(number)) { ready(number); return; }
    const script = document.createElement("script");
    script.src = `index_files/${page.files[number]}.js`;
    script.onerror = () => { find("path").textContent = `${script.src} is missing: keep index_files beside index.html`; };
    document.head.append(script);
  }

  window.captionerEntry = (number, loaded) => { entries.set(number, loaded); if (number === current) ready(number); };
  const visible = () => cards.map((_, number) => number).filter((number) => !cards[number].parentElement.hidden);
  const go = (by) => { const near = visible(), next = near[near.indexOf(current) + by]; if (next !== undefined) open(next); };

  cards.forEach((card, number) => card.addEventListener("click", () => open(number)));
  find("search").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    cards.forEach((card, number) => { const held = wanted.every((word) => searched[number].includes(word)); card.parentElement.hidden = !held; left += held; });
    find("count").textContent = wanted.length ? `${left} of ${cards.length}` : page.count;
    find("nothing").hidden = left > 0;
  });
  find("close").addEventListener("click", () => viewer.close());
  find("back").addEventListener("click", () => go(-1));
  find("forth").addEventListener("click", () => go(1));
  play.addEventListener("click", () => (timer ? stop() : start()));
  slider.addEventListener("input", () => { stop(); pin(Number(slider.value)); });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => { stop(); history.replaceState(null, "", "#"); cards[current]?.focus(); });
  viewer.addEventListener("keydown", (event) => {
    if (!entry) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && event.target !== slider) {
      event.preventDefault(); stop();
      pin(Math.min(Math.max(shown + by, 0), entry.words.length));
      if (event.target.classList.contains("word") && shown) find("words").children[shown - 1].focus();
    } else if (event.key === "PageDown" || event.key === "PageUp") { event.preventDefault(); go(event.key === "PageDown" ? 1 : -1); }
    else if (event.key === " " && !["BUTTON", "SUMMARY", "INPUT"].includes(event.target.tagName)) { event.preventDefault(); play.click(); }
  });
  addEventListener("resize", fit);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit);

  const strip = find("scale").getContext("2d"), line = strip.createImageData(256, 1);
  for (let step = 0; step < 256; step++) line.data.set([colours[3 * step], colours[3 * step + 1], colours[3 * step + 2], 255], 4 * step);
  strip.putImageData(line, 0, 0);
  const asked = /^#(\d+)(?::(\d+))?$/.exec(location.hash);
  if (asked && cards[asked[1] - 1]) open(asked[1] - 1, Number(asked[2] ?? 0));
})();
