"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const make = (tag, text, kind) => Object.assign(document.createElement(tag), { textContent: text ?? "", className: kind ?? "" });
  const press = (text, kind, act) => { const one = make("button", text, kind); one.type = "button"; one.addEventListener("click", act); return one; };
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const page = JSON.parse(find("data").textContent);
  const colours = bytes(page.colours), cards = [...document.querySelectorAll(".card")], items = cards.map((card) => card.parentElement);
  const searched = cards.map((card) => (card.textContent + " " + (card.dataset.also ?? "")).toLowerCase());
  const scores = cards.map((card) => JSON.parse(card.dataset.scores ?? "{}")), numbers = new Map(items.map((item, number) => [item, number]));
  const stages = find("stages"), viewer = find("viewer"), slider = find("slider"), play = find("play"), calm = matchMedia("(hover: none)");
  const beside = matchMedia("(min-width: 900px), (min-width: 600px) and (orientation: landscape)");
  const entries = new Map(page.entries.map((entry, number) => [number, entry]));
  // An entry is an image; said, what is shown of it: its caption or an alternative; kind, the map's number or -1 for all side by side; wish, the kind last asked for.
  let current = -1, entry = null, said = null, kind = 0, wish = 0, pinned = 0, shown = 0, first = 0, timer = 0, stretched = false;
  let waiting = false; // whether to play the caption as soon as the entry has loaded

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
    const { rows, cols } = map, from = word * rows * cols, scale = map.peaks[word] / 255;
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

  /** What the scale's ends mean: nothing, and the map's peak but not below `lowest`; stretched, the map's least and its peak. */
  function ends(found, lowest) {
    let least = stretched ? Infinity : 0, peak = lowest;
    for (const value of found) { if (value > peak) peak = value; if (value >= 0 && value < least) least = value; }
    return peak > least ? [least, peak] : [least, least + 1];
  }

  function paint(stage, map, word) {
    const ratio = Math.min(devicePixelRatio || 1, 2), fit = Math.min(1, 900 / Math.max(stage.clientWidth, stage.clientHeight, 1));
    const width = Math.max(Math.round(stage.clientWidth * ratio * fit), 2), height = Math.max(Math.round(stage.clientHeight * ratio * fit), 2);
    const canvas = stage.querySelector("canvas"), brush = canvas.getContext("2d");
    canvas.width = width; canvas.height = height;
    stage.classList.toggle("looking", word > 0 && Boolean(map));
    if (!word || !map) return;
    map.bytes ??= bytes(map.data);
    const box = entry.box.map((side, axis) => (side * (axis % 2 ? height / entry.height : width / entry.width)));
    const found = interpolated(map, word - 1, width, height, box), picture = brush.createImageData(width, height);
    const grey = getComputedStyle(document.documentElement).getPropertyValue("--unseen").split(",").map(Number);
    const [least, peak] = ends(found, stretched ? 0 : page.full / (map.rows * map.cols));
    for (let i = 0, at = 0; i < found.length; i++, at += 4) {
      if (found[i] < 0) { picture.data.set([...grey, 200], at); continue; }
      const step = Math.min(Math.round((255 * (found[i] - least)) / (peak - least)), 255), strength = step / 255;
      picture.data[at] = colours[3 * step]; picture.data[at + 1] = colours[3 * step + 1]; picture.data[at + 2] = colours[3 * step + 2];
      picture.data[at + 3] = 255 * (page.opacity[0] + (page.opacity[1] - page.opacity[0]) * strength);
    }
    brush.putImageData(picture, 0, 0);
  }

  const viewed = () => (kind < 0 ? said.maps.map((_, number) => number) : [kind]);
  const draw = (word) => entry && viewed().forEach((number, place) => paint(stages.children[place].querySelector(".stage"), said.maps[number], word));

  function place(map, word) {
    map.bytes ??= bytes(map.data);
    const size = map.rows * map.cols, part = map.bytes.subarray((word - 1) * size, word * size);
    let top = 0;
    part.forEach((value, cell) => { if (value > part[top]) top = cell; });
    if (!part[top]) return "nowhere";
    const [left, high, right, low] = entry.box, y = (high + ((Math.floor(top / map.cols) + 0.5) / map.rows) * (low - high)) / entry.height;
    const x = (left + (((top % map.cols) + 0.5) / map.cols) * (right - left)) / entry.width;
    const where = [["upper left", "top", "upper right"], ["left", "centre", "right"], ["lower left", "bottom", "lower right"]];
    return where[Math.min(Math.floor(y * 3), 2)][Math.min(Math.floor(x * 3), 2)];
  }

  const percent = (share) => (share < 0.005 ? "<1 %" : share > 0.995 && share < 1 ? ">99 %" : Math.round(100 * share) + " %");
  /** What is known of a word: [name, text, share of one or null, what it means]. */
  function told(word) {
    const found = [], map = said.maps[Math.max(kind, 0)];
    const share = (name, key, means) => { const value = said[key]?.[word - 1]; if (value != null) found.push([name, percent(value), value, means]); };
    share("Probability", "sure", "how probable the model held this word after those before");
    if (map) found.push(["Most at", place(map, word), null, "where the map of this word is highest"]);
    share("Gate", "gate", "how much of what was looked at is let through to the word");
    share("Sentinel", "sentinel", "how much the word rests on the words before instead of the picture");
    return found;
  }

  const resting = () => (!said.words.length ? "The model said nothing." : !said.maps.length ? "No maps were kept of this caption."
    : `${calm.matches ? "Tap" : "Point at"} a word to see where the model looked.`);
  function say(word) {
    find("spoken").textContent = word ? [`${word} of ${said.words.length}: ${said.words[word - 1]}`, ...told(word).map(([name, text]) => `${name.toLowerCase()} ${text}`)].join(", ") : resting();
    find("now").replaceChildren(...(word ? told(word).map(([name, text, share, means]) => {
      const part = make("div"), bar = make("span", "", "meter");
      part.title = means; bar.style.setProperty("--share", share);
      part.append(make("dt", name), make("dd", text), ...(share == null ? [] : [bar]));
      return part;
    }) : [make("p", resting())]));
  }

  function show(word) {
    shown = word;
    draw(word);
    [...find("words").children].forEach((button, number) => {
      button.classList.toggle("shown", number + 1 === word);
      button.setAttribute("aria-pressed", String(number + 1 === pinned));
    });
    slider.value = word;
    slider.setAttribute("aria-valuetext", word ? said.words[word - 1] : "the photo alone");
    say(word);
  }

  function pin(word) { pinned = word; show(word); }
  function playing(on) { play.classList.toggle("playing", on); play.setAttribute("aria-label", on ? "Pause" : "Play the caption"); }
  function stop() { clearInterval(timer); timer = 0; waiting = false; playing(false); }
  function start() {
    if (!entry) { waiting = !waiting; playing(waiting); return; }
    stop();
    if (!said.words.length) return;
    playing(true);
    pin(shown >= said.words.length ? 1 : shown + 1);
    timer = setInterval(() => (shown >= said.words.length ? (stop(), pin(0)) : pin(shown + 1)), 900);
  }

  function wordButtons() {
    const words = find("words");
    words.classList.toggle("unsure", !said.sure);
    words.dir = slider.dir = find("caption").dir = said.direction;
    words.replaceChildren(...said.words.map((text, index) => {
      const word = index + 1, button = press(text, "word", () => { stop(); pin(pinned === word ? 0 : word); });
      button.style.setProperty("--sure", said.sure?.[index] ?? 0);
      button.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch" && !timer) show(word); });
      button.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch" && !timer) show(pinned); });
      button.addEventListener("focus", () => { if (!timer && button.matches(":focus-visible")) show(word); });
      return button;
    }));
    slider.max = Math.max(said.words.length, 1);
    slider.disabled = play.disabled = !said.words.length;
  }

  /** Which words of one caption another does not have, by their longest common subsequence. */
  function fresh(words, others) {
    const best = Array.from({ length: words.length + 1 }, () => new Uint16Array(others.length + 1));
    for (let i = words.length - 1; i >= 0; i--) for (let j = others.length - 1; j >= 0; j--)
      best[i][j] = words[i] === others[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    const found = words.map(() => true);
    for (let i = 0, j = 0; i < words.length && j < others.length;) {
      if (words[i] === others[j]) { found[i] = false; i++; j++; } else if (best[i + 1][j] >= best[i][j + 1]) i++; else j++;
    }
    return found;
  }

  function alternatives() {
    const all = [entry, ...entry.alternatives], list = find("otherlist");
    list.replaceChildren(...all.map((other, number) => {
      const item = make("li"), text = Object.assign(make("span"), { dir: other.direction }), marked = fresh(other.words, entry.words);
      const button = press("", "other", () => { stop(); tell(other, [...list.children].map((one) => one.firstChild), number); });
      if (!other.words.length) text.append(make("span", "(no words)", "quiet"));
      other.words.forEach((word, index) => text.append(index ? " " : "", number && marked[index] ? make("mark", word) : word));
      button.append(text, make("span", other.note, "quiet"));
      item.append(button);
      return item;
    }));
    find("others").hidden = all.length < 2;
    list.firstChild.firstChild.setAttribute("aria-pressed", "true");
  }

  function settle() { kind = wish < 0 && said.maps.length > 1 ? -1 : said.maps[wish] ? wish : 0; }
  function tell(other, buttons, number) {
    said = other;
    settle();
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(index === number)));
    wordButtons(); kindButtons(); figures(); pin(0);
    find("caption").textContent = said.caption || "(no words)";
  }

  function kindButtons() {
    const names = said.maps.map((map) => map.name), kinds = find("kinds");
    kinds.replaceChildren(...(names.length > 1 ? [...names, "Side by side"] : []).map((name, index) => {
      const number = index < names.length ? index : -1;
      const button = press(name, "", () => {
        kind = wish = number; figures(); show(shown);
        [...kinds.children].forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
      });
      button.setAttribute("aria-pressed", String(number === kind));
      return button;
    }));
    kinds.hidden = names.length < 2;
  }

  function figures() {
    stages.replaceChildren(...viewed().map((number) => {
      const figure = make("figure"), stage = make("div", "", "stage"), photo = make("img"), canvas = make("canvas");
      photo.src = entry.src; photo.alt = kind < 0 && number ? "" : entry.caption;
      canvas.setAttribute("aria-hidden", "true");
      stage.append(photo, canvas); figure.append(stage);
      if (kind < 0) figure.append(make("figcaption", said.maps[number].name));
      stage.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") here(stage, said.maps[number], event); });
      stage.addEventListener("pointerleave", () => here(stage, null));
      return figure;
    }));
    stages.classList.toggle("many", kind < 0);
    fit();
  }

  /** Tint the words that looked where the pointer is, as much as they did against the word that looked there most. */
  function here(stage, map, event) {
    const buttons = [...find("words").children], at = buttons.map(() => 0);
    if (map && event) {
      map.bytes ??= bytes(map.data);
      const frame = stage.getBoundingClientRect(), [left, high, right, low] = entry.box;
      const x = (((event.clientX - frame.left) / frame.width) * entry.width - left) / (right - left);
      const y = (((event.clientY - frame.top) / frame.height) * entry.height - high) / (low - high);
      const cell = Math.floor(y * map.rows) * map.cols + Math.floor(x * map.cols);
      if (x >= 0 && x < 1 && y >= 0 && y < 1) at.forEach((_, word) => { at[word] = map.peaks[word] * map.bytes[word * map.rows * map.cols + cell]; });
    }
    const most = Math.max(...at, 1e-9);
    buttons.forEach((button, word) => button.style.setProperty("--here", (at[word] / most) ** 2));
  }

  /** Sizes of the figures: as many to a row as makes them largest; on a phone one strip, which scrolls. */
  function fit() {
    if (!entry) return;
    const style = getComputedStyle(stages), count = stages.children.length, label = kind < 0 ? 28 : 0, gap = 12, aspect = entry.width / entry.height;
    const width = stages.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - 1; // lengths are no whole pixels
    const height = stages.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom) - 1;
    let across = 0;
    if (!beside.matches) across = Math.min(count > 2 ? width / 2.2 : (width - (count - 1) * gap) / count, innerHeight * (count > 1 ? 0.36 : 0.46) * aspect);
    else for (let columns = 1; columns <= count; columns++) {
      const rows = Math.ceil(count / columns), room = (height - (rows - 1) * gap) / rows - label;
      across = Math.max(across, Math.min((width - (columns - 1) * gap) / columns, room * aspect));
    }
    const least = Math.min(width, count > 1 ? 120 : 60);
    across = Math.floor(Math.max(Math.min(across, Math.max(2.5 * entry.width, 960)), least));
    for (const figure of stages.children) {
      figure.style.width = `${across}px`;
      figure.firstChild.style.height = `${Math.max(across / aspect, 2)}px`;
    }
    draw(shown);
  }

  /** What is known of an entry before it has loaded: its caption and its file's name, and nothing of the one before. */
  function empty(number) {
    const card = cards[number], words = card.querySelector(".said").textContent, file = card.querySelector(".file");
    for (const id of ["words", "stages", "kinds", "otherlist", "truthlist", "facts"]) find(id).replaceChildren();
    find("kinds").hidden = find("others").hidden = find("truth").hidden = true;
    find("caption").textContent = words; find("caption").dir = card.querySelector(".said").dir; find("path").textContent = file.textContent; find("path").title = file.title;
    find("now").replaceChildren(make("p", "Loading the maps ..."));
    slider.disabled = true; slider.value = 0; play.disabled = false;
  }

  function ready(number) {
    const playNow = waiting;
    waiting = false;
    entry = said = entries.get(number);
    settle();
    shown = pinned = 0;
    find("caption").textContent = entry.caption || "(no words)";
    find("path").textContent = entry.path.split(/[\\/]/).pop(); find("path").title = entry.path;
    wordButtons(); kindButtons(); alternatives();
    find("truthlist").replaceChildren(...entry.references.map((text) => Object.assign(make("li", text), { dir: "auto" })));
    find("truth").hidden = !entry.references.length;
    find("facts").replaceChildren(...entry.facts.map(([name, value]) => { const pair = make("div"); pair.append(make("dt", name), make("dd", value)); return pair; }));
    figures(); pin(Math.min(first, entry.words.length));
    if (playNow) start(); else playing(false);
  }

  function open(number, word = 0) {
    stop();
    current = number; first = word;
    const near = visible(), at = near.indexOf(number);
    find("back").disabled = at <= 0; find("forth").disabled = at < 0 || at >= near.length - 1;
    find("place").textContent = at < 0 ? "" : `${at + 1} of ${near.length}`;
    entry = null;
    if (!viewer.open) viewer.showModal();
    history.replaceState(null, "", "#" + (number + 1));
    document.querySelector(".story").scrollTop = document.querySelector(".view").scrollTop = 0;
    if (entries.get(number)) { ready(number); return; }
    empty(number);
    const script = document.createElement("script");
    script.src = `index_files/${page.files[number]}.js`;
    script.onerror = () => {
      if (number !== current) return;
      find("path").textContent = `${script.src} is missing: keep index_files beside index.html`;
      find("now").replaceChildren(make("p", "The maps of this image are not here.")); stop(); play.disabled = true;
    };
    script.onload = () => script.remove();
    document.head.append(script);
  }

  window.captionerEntry = (number, loaded) => { entries.set(number, loaded); if (number === current && !entry) ready(number); };
  const visible = () => [...find("cards").children].filter((item) => !item.hidden).map((item) => numbers.get(item));
  const go = (by) => { const near = visible(), next = near[near.indexOf(current) + by]; if (next !== undefined) open(next); };

  cards.forEach((card, number) => card.addEventListener("click", () => open(number)));
  find("search").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    items.forEach((item, number) => { const held = wanted.every((word) => searched[number].includes(word)); item.hidden = !held; left += held; });
    find("count").textContent = wanted.length ? `${left} of ${cards.length}` : page.count;
    find("nothing").hidden = left > 0;
  });
  const names = [...new Set(scores.flatMap(Object.keys))];
  names.forEach((name) => [[-1, "highest"], [1, "lowest"]].forEach(([sign, end]) => find("order").add(new Option(`${name}, ${end} first`, JSON.stringify([name, sign])))));
  find("ordering").hidden = !names.length || cards.length < 2;
  find("order").addEventListener("change", (event) => {
    const [name, sign] = JSON.parse(event.target.value || "[null,1]"), none = Infinity;
    const rank = (item) => (name === null ? numbers.get(item) : sign * (scores[numbers.get(item)][name] ?? sign * none));
    find("cards").append(...[...items].sort((one, other) => rank(one) - rank(other) || numbers.get(one) - numbers.get(other)));
  });

  find("close").addEventListener("click", () => viewer.close());
  find("back").addEventListener("click", () => go(-1));
  find("forth").addEventListener("click", () => go(1));
  find("stretch").addEventListener("click", (event) => {
    stretched = !stretched; event.currentTarget.setAttribute("aria-pressed", String(stretched));
    find("scale").previousElementSibling.textContent = stretched ? "least" : "looks less"; find("scale").nextElementSibling.textContent = stretched ? "most" : "more";
    draw(shown);
  });
  play.addEventListener("click", () => (timer ? stop() : start()));
  slider.addEventListener("input", () => { stop(); pin(Number(slider.value)); });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => { stop(); history.replaceState(null, "", "#"); cards[current]?.focus(); });
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * (find("caption").dir === "rtl" ? -1 : 1);
    if (by && !entry) { event.preventDefault(); first = Math.max(first + by, 0); }
    else if (by && event.target !== slider) {
      event.preventDefault(); stop();
      pin(Math.min(Math.max(shown + by, 0), said.words.length));
      if (event.target.classList.contains("word") && shown) find("words").children[shown - 1].focus();
    } else if (event.key === "PageDown" || event.key === "PageUp") { event.preventDefault(); go(event.key === "PageDown" ? 1 : -1); }
    else if (event.key === " " && !["BUTTON", "SUMMARY", "INPUT"].includes(event.target.tagName)) { event.preventDefault(); play.click(); }
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !viewer.open && event.target.tagName !== "INPUT") { event.preventDefault(); find("search").focus(); }
  });
  addEventListener("resize", fit);

  const root = document.documentElement, night = matchMedia("(prefers-color-scheme: dark)"), theme = find("theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : night.matches);
  const dress = () => { theme.setAttribute("aria-pressed", String(dark())); fit(); };
  try { root.dataset.theme = localStorage.getItem("captioner-theme") ?? ""; } catch { /* no storage on this page */ }
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark"; dress();
    try { localStorage.setItem("captioner-theme", root.dataset.theme); } catch { /* kept for this visit only */ }
  });
  night.addEventListener("change", dress);
  dress();

  const strip = find("scale").getContext("2d"), line = strip.createImageData(256, 1);
  for (let step = 0; step < 256; step++) line.data.set([colours[3 * step], colours[3 * step + 1], colours[3 * step + 2], 255], 4 * step);
  strip.putImageData(line, 0, 0);
  const asked = /^#(\d+)(?::(\d+))?$/.exec(location.hash);
  if (asked && cards[asked[1] - 1]) open(asked[1] - 1, Number(asked[2] ?? 0));
  else if (early) open(cards.indexOf(early));
})();
