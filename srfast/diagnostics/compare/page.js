"use strict";
(() => {
  const scenes = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const stage = at("stage"), canvas = at("canvas"), split = at("split"), gain = at("gain");
  const context = canvas.getContext("2d");
  const LARGEST = 32, NEAR = 28, STEP = 48, ZOOM = 1.25;
  const state = { scene: 0, left: 0, right: 0, mode: "slider", scale: 1, x: 0, y: 0, fitted: true };
  let loaded = [];
  let difference = null;
  let waiting = false;

  const scene = () => scenes[state.scene];
  const decoded = (source) => {
    const image = new Image();
    image.src = source;
    return image.decode().then(() => image);
  };

  async function open(number) {
    state.scene = number;
    const views = scene().views;
    for (const [list, chosen] of [[at("left"), state.left], [at("right"), state.right]]) {
      list.replaceChildren(...views.map((view, i) => new Option(view.label, i)));
      list.value = Math.min(chosen, views.length - 1);
    }
    state.left = Number(at("left").value);
    state.right = Number(at("right").value);
    at("scene").value = number;
    document.querySelectorAll("[data-scene]").forEach((table) => { table.hidden = Number(table.dataset.scene) !== number; });
    loaded = await Promise.all(views.map(async (view) => ({
      picture: await decoded(view.picture), spectrum: await decoded(view.spectrum),
    })));
    difference = null;
    stage.style.aspectRatio = `${scene().width} / ${scene().height}`;
    fit();
    document.body.dataset.ready = String(number);
  }

  const box = () => stage.getBoundingClientRect();
  const smallest = () => Math.min(box().width / scene().width, box().height / scene().height);

  function fit() {
    state.fitted = true;
    state.scale = smallest();
    place();
  }

  function place() {
    const { width, height } = box();
    const wide = scene().width * state.scale, tall = scene().height * state.scale;
    const inside = (value, room, size) => size <= room + 0.5 ? (room - size) / 2 : Math.min(0, Math.max(room - size, value));
    state.x = inside(state.x, width, wide);
    state.y = inside(state.y, height, tall);
    redraw();
  }

  function zoom(scale, x, y) {
    const { width, height } = box();
    x = x ?? width / 2;
    y = y ?? height / 2;
    const next = Math.min(LARGEST, Math.max(Math.min(smallest(), 1), scale));
    state.x = x - (x - state.x) * next / state.scale;
    state.y = y - (y - state.y) * next / state.scale;
    state.scale = next;
    state.fitted = Math.abs(next / smallest() - 1) < 1e-6;
    place();
  }

  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function draw() {
    if (!loaded.length) return;
    const { width, height } = box(), ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const real = state.scale * ratio;
    context.imageSmoothingEnabled = real < 2 && Math.abs(real - 1) > 1e-6;  // from there on the pixels are to be seen
    context.imageSmoothingQuality = "high";
    if (state.mode === "spectrum") drawSpectra(width, height);
    else if (state.mode === "difference") put(differenceOf());
    else drawSlider(width, height);
    tell();
  }

  function put(picture) {
    context.drawImage(picture, state.x, state.y, scene().width * state.scale, scene().height * state.scale);
  }

  function drawSlider(width, height) {
    const x = width * split.value / 100;
    for (const [view, from, to] of [[state.left, 0, x], [state.right, x, width]]) {
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, height);
      context.clip();
      put(loaded[view].picture);
      context.restore();
    }
    context.fillStyle = "rgba(0, 0, 0, .45)";
    context.fillRect(x - 2, 0, 4, height);
    context.fillStyle = "#fff";
    context.fillRect(x - 1, 0, 2, height);
    context.beginPath();
    context.arc(x, height / 2, 15, 0, 2 * Math.PI);
    context.fill();
    context.strokeStyle = "rgba(0, 0, 0, .6)";
    context.lineWidth = 1;
    context.stroke();
    context.strokeStyle = "#222";
    context.lineWidth = 2;
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(x + side * 4, height / 2 - 5);
      context.lineTo(x + side * 9, height / 2);
      context.lineTo(x + side * 4, height / 2 + 5);
    }
    context.stroke();
  }

  function drawSpectra(width, height) {
    const side = Math.min((width - 12) / 2, height);
    context.imageSmoothingEnabled = true;
    context.drawImage(loaded[state.left].spectrum, width / 2 - 6 - side, (height - side) / 2, side, side);
    context.drawImage(loaded[state.right].spectrum, width / 2 + 6, (height - side) / 2, side, side);
  }

  function pixels(view) {
    const surface = new OffscreenCanvas(scene().width, scene().height);
    const drawing = surface.getContext("2d", { willReadFrequently: true });
    drawing.drawImage(loaded[view].picture, 0, 0);
    return drawing.getImageData(0, 0, surface.width, surface.height);
  }

  function differenceOf() {
    const key = [state.scene, state.left, state.right, gain.value].join();
    if (difference?.key === key) return difference.surface;
    const a = pixels(state.left), b = pixels(state.right), times = Number(gain.value);
    let sum = 0, most = 0;
    for (let i = 0; i < a.data.length; i += 4) {
      for (let c = i; c < i + 3; c++) {
        const apart = Math.abs(a.data[c] - b.data[c]);
        sum += apart;
        most = Math.max(most, apart);
        a.data[c] = apart * times;
      }
    }
    const surface = new OffscreenCanvas(a.width, a.height);
    surface.getContext("2d").putImageData(a, 0, 0);
    difference = { key, surface, mean: sum / (a.data.length * 3 / 4), most };
    return surface;
  }

  function tell() {
    const views = scene().views, left = views[state.left], right = views[state.right];
    const percent = `${Math.round(state.scale * 100)}%`;
    at("percent").value = percent;
    at("times").value = gain.value;
    at("tag-left").textContent = state.mode === "difference" ? `${left.label} − ${right.label}` : left.label;
    at("tag-left").style.maxWidth = state.mode === "difference" ? "92%" : "";
    at("tag-right").textContent = right.label;
    at("tag-right").hidden = state.mode === "difference";
    at("divider").hidden = state.mode !== "slider";
    at("amplify").hidden = state.mode !== "difference";
    split.setAttribute("aria-valuetext", `${Math.round(split.value)}% ${left.label}, the rest ${right.label}`);
    const shown = {
      slider: `Left ${left.label}, right ${right.label}.`,
      difference: `Difference of ${left.label} and ${right.label}: ` +
        `mean ${difference?.mean.toFixed(2)}, largest ${difference?.most} of 255.`,
      spectrum: `Spectra of ${left.label} and ${right.label}: the middle is frequency zero, the edges are the finest detail.`,
    }[state.mode];
    if (at("status").textContent !== shown) at("status").textContent = shown;
    stage.setAttribute("aria-label", `${scene().name}. ${shown} Zoom ${percent}.`);
  }

  function mode(name) {
    state.mode = name;
    document.querySelector(`input[name=mode][value=${name}]`).checked = true;
    redraw();
  }

  function divide(value) {
    split.value = Math.min(100, Math.max(0, value));
    redraw();
  }

  function choose(left, right) {
    state.left = left;
    state.right = right;
    at("left").value = left;
    at("right").value = right;
    redraw();
  }

  const turn = (by) => open((state.scene + by + scenes.length) % scenes.length);
  const pan = (x, y) => { state.x += x; state.y += y; place(); };
  const keys = {
    ArrowLeft: () => pan(STEP, 0), ArrowRight: () => pan(-STEP, 0), ArrowUp: () => pan(0, STEP), ArrowDown: () => pan(0, -STEP),
    "+": () => zoom(state.scale * ZOOM), "=": () => zoom(state.scale * ZOOM), "-": () => zoom(state.scale / ZOOM),
    0: fit, 1: () => zoom(1), "[": () => divide(Number(split.value) - 2), "]": () => divide(Number(split.value) + 2),
    x: () => choose(state.right, state.left), s: () => mode("slider"), d: () => mode("difference"), f: () => mode("spectrum"),
    n: () => turn(1), p: () => turn(-1),
  };
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });

  const pointers = new Map();
  let held = null;  // what a pointer moves
  let spread = 0;   // of two fingers
  const where = (event) => { const area = box(); return { x: event.clientX - area.left, y: event.clientY - area.top }; };
  const onDivider = (point) => {
    if (state.mode !== "slider") return false;
    return Math.abs(point.x - box().width * split.value / 100) < NEAR || state.scale <= smallest() * 1.001;
  };
  const distance = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    const point = where(event);
    pointers.set(event.pointerId, point);
    if (pointers.size === 2) { held = "both"; spread = distance(); return; }
    held = onDivider(point) ? "divider" : "picture";
    stage.classList.toggle("held", held === "picture");
    if (held === "divider") divide(point.x / box().width * 100);
  });
  stage.addEventListener("pointermove", (event) => {
    const point = where(event), before = pointers.get(event.pointerId);
    if (!before) { stage.classList.toggle("dividing", onDivider(point)); return; }
    pointers.set(event.pointerId, point);
    if (held === "both" && pointers.size === 2) {
      const [a, b] = [...pointers.values()], apart = distance();
      zoom(state.scale * apart / (spread || apart), (a.x + b.x) / 2, (a.y + b.y) / 2);
      spread = apart;
    } else if (held === "divider") divide(point.x / box().width * 100);
    else if (held === "picture") pan(point.x - before.x, point.y - before.y);
  });
  const release = (event) => {
    pointers.delete(event.pointerId);
    if (!pointers.size) held = null;
    else if (held === "both") held = "picture";
    stage.classList.remove("held");
  };
  stage.addEventListener("pointerup", release);
  stage.addEventListener("pointercancel", release);
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const point = where(event);
    zoom(state.scale * Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), point.x, point.y);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => {
    const point = where(event);
    if (state.fitted) zoom(4, point.x, point.y); else fit();
  });

  at("scene").addEventListener("change", (event) => open(Number(event.target.value)));
  at("left").addEventListener("change", (event) => choose(Number(event.target.value), state.right));
  at("right").addEventListener("change", (event) => choose(state.left, Number(event.target.value)));
  at("swap").addEventListener("click", () => choose(state.right, state.left));
  at("in").addEventListener("click", () => zoom(state.scale * ZOOM));
  at("out").addEventListener("click", () => zoom(state.scale / ZOOM));
  at("fit").addEventListener("click", fit);
  at("one").addEventListener("click", () => zoom(1));
  split.addEventListener("input", redraw);
  gain.addEventListener("input", redraw);
  document.querySelectorAll("input[name=mode]").forEach((choice) => choice.addEventListener("change", () => mode(choice.value)));
  new ResizeObserver(() => { if (loaded.length) { if (state.fitted) fit(); else place(); } }).observe(stage);

  at("scene").replaceChildren(...scenes.map((one, i) => new Option(one.name, i)));
  at("scenes").hidden = scenes.length < 2;
  state.right = Math.max(0, scenes[0].first_choice);
  open(0);
})();
