// The player's behaviour: receives messages, keeps every frame, draws the one at `position`.
// Gradio gives this script `element`, `props` and `watch`.
const setup = JSON.parse(props.setup);
const [channels, height, width] = setup.shape;
const size = channels * height * width;
const $ = (selector) => element.querySelector(selector);
const player = $(".player"), slider = $(".position"), playButton = $(".play");
const MARKS = ["#3B8BEB", "#E69F00", "#CC79A7"];

let run = null, frames = [], ended = null; // the run's header, its frames, its end
let position = 0, playing = false, lastTick = 0, ticking = false, stale = false;
let chosen = [[Math.floor(height / 2), Math.floor(width / 2)], [Math.floor(height / 4), Math.floor(width / 2)], [Math.floor(height / 8), Math.floor(width / 8)]]
  .map(([row, column]) => ({ sample: 0, row, column }));

// --- messages ----------------------------------------------------------------------------------------------------

function receive(message) {
  if (!message) return;
  const cut = message.indexOf("|");
  const header = JSON.parse(message.slice(0, cut));
  if (header.kind === "start") open(header);
  else if (!run || header.job !== run.job) return; // a late frame of a run that has been replaced
  else if (header.kind === "frame") frames.push(decode(header, message.slice(cut + 1)));
  else close(header);
  refresh();
}

function open(header) {
  run = header;
  [frames, ended, position, playing, lastTick] = [[], null, 0, true, 0];
  slider.max = run.frames - 1;
  chosen = chosen.map((pixel) => ({ ...pixel, sample: Math.min(pixel.sample, run.labels.length - 1) }));
  const pictures = run.labels.map((label) => run.names[label]).join(", ");
  $("canvas.x").setAttribute("aria-label", `x_t, the noisy pictures, asked for: ${pictures}`);
  $("canvas.x0").setAttribute("aria-label", `predicted x_0, the clean pictures, asked for: ${pictures}`);
  notify(run.notes);
  writeAddress(run.query);
  $(".hint").hidden = true;
  [playButton, $(".back"), $(".forward"), slider].forEach((control) => { control.disabled = false; });
  restartPlots();
}

function close(header) {
  ended = header;
  if (header.problem) notify([...run.notes, header.problem]);
}

function decode(header, payload) {
  const text = atob(payload), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const count = run.labels.length, pictures = count * size;
  return {
    ...header,
    x: new Int16Array(bytes.buffer, 0, pictures),
    x0: new Int16Array(bytes.buffer, 2 * pictures, pictures),
    path: new Float32Array(bytes.buffer, 4 * pictures, 2 * count),
    path0: new Float32Array(bytes.buffer, 4 * pictures + 8 * count, 2 * count),
  };
}

function notify(sentences) {
  const notes = $(".notes");
  notes.hidden = !sentences.length;
  notes.replaceChildren(...sentences.map((sentence) => Object.assign(document.createElement("div"), { textContent: sentence })));
}

// Called when a control changes: the address follows at once, the pictures at the next run.
function changed(query) {
  writeAddress(query);
  $(".hint").hidden = !run || Object.entries(query).every(([name, value]) => String(value) === run.query[name]);
}

function writeAddress(query) {
  const address = new URL(window.location);
  Object.entries(query).forEach(([name, value]) => address.searchParams.set(name, value));
  window.history.replaceState(window.history.state, "", address);
}
window.ddpm = { changed };

// --- the clock ---------------------------------------------------------------------------------------------------

function refresh() {
  stale = true;
  awaitTick();
}

function awaitTick() {
  if (!ticking) { ticking = true; requestAnimationFrame(tick); }
}

function tick(now) {
  const before = position;
  ticking = false;
  if (playing) advance(now);
  if (stale || position !== before) { stale = false; draw(); }
  if (playing) awaitTick();
}

function advance(now) {
  const interval = 1000 / Number($(".rate").value), last = frames.length - 1;
  const due = Math.floor((now - lastTick) / interval);
  if (position < last && due > 0) {
    position = lastTick ? Math.min(position + due, last) : position;
    lastTick = now;
  }
  if (ended && position >= last) setPlaying(false);
}

function setPlaying(value) {
  if (value && ended && position >= frames.length - 1) position = 0;
  playing = value;
  lastTick = performance.now();
  if (!playing) restPlots(); else clearTraces();
  refresh();
}

function moveTo(target) {
  if (!frames.length) return;
  position = Math.min(Math.max(target, 0), frames.length - 1);
  setPlaying(false);
}

// --- pictures ----------------------------------------------------------------------------------------------------

function draw() {
  $(".play .shape").setAttribute("d", playing ? "M3 1h4v14H3zM9 1h4v14H9z" : "M3 1v14l11-7z");
  playButton.setAttribute("aria-label", playing ? "Pause" : "Play");
  const state = !run ? "" : !ended ? "computing" : ended.problem ? "failed" : frames.length < run.frames ? "stopped" : "finished";
  player.dataset.state = state;
  player.dataset.job = run ? run.job : "";
  player.dataset.frames = frames.length;
  player.dataset.position = position;
  player.dataset.playing = playing;
  if (run) progress(state);
  if (!frames.length) return;
  const frame = frames[position];
  paint($("canvas.x"), frame.x);
  paint($("canvas.x0"), frame.x0);
  placeRings();
  describe(frame);
  slider.value = position;
  $(".loaded").style.width = `${(100 * Math.max(frames.length - 1, 0)) / Math.max(slider.max, 1)}%`;
  planePlot?.draw();
  pixelPlot?.draw();
}

function progress(state) {
  const seconds = !ended || !frames.length ? "" : `, computed in ${frames[frames.length - 1].seconds.toFixed(1)} s`;
  const all = run.run.steps + 1;
  const thinned = run.frames < all ? ` (${run.frames} shown of ${all})` : "";
  $(".speed").textContent = `${state}: ${frames.length} of ${run.frames} states${thinned}${seconds}`;
}

function describe(frame) {
  $(".step").textContent = `step t = ${frame.index} of ${run.run.steps}`;
  const level = frame.logSnr === null ? "∞ (no noise is left)" : frame.logSnr.toFixed(2);
  $(".level").textContent = `log-SNR λ = ${level} · signal left ᾱ = ${percent(frame.alphaBar)}`;
  slider.setAttribute("aria-valuetext", `step ${frame.index} of ${run.run.steps}`);
}

function percent(share) {
  const digits = share > 0 && share < 0.001 ? 4 : share < 0.1 || (share > 0.99 && share < 1) ? 2 : 0;
  return `${(100 * share).toFixed(digits)} %`;
}

function paint(canvas, values) {
  const count = run.labels.length, across = run.columns, down = Math.ceil(count / across);
  const [w, h] = [across * (width + 1) - 1, down * (height + 1) - 1];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const image = new ImageData(w, h);
  for (let i = 0; i < count; i++) {
    const top = Math.floor(i / across) * (height + 1), left = (i % across) * (width + 1);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const to = 4 * ((top + row) * w + left + column), from = i * size + row * width + column;
        for (let c = 0; c < 3; c++) {
          image.data[to + c] = (values[from + (channels === 3 ? c * height * width : 0)] / setup.scale + 1) * 127.5;
        }
        image.data[to + 3] = 255;
      }
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function choose(event) {
  if (!frames.length) return;
  const canvas = event.currentTarget, box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
  const pixel = {
    sample: Math.floor(y / (height + 1)) * run.columns + Math.floor(x / (width + 1)),
    row: y % (height + 1), column: x % (width + 1),
  };
  if (pixel.sample >= run.labels.length || pixel.row >= height || pixel.column >= width) return;
  chosen = [...chosen.slice(1), pixel];
  placeRings();
  if (playing) pixelPlot?.draw(); else restPlots();
}

function placeRings() {
  for (const name of ["x", "x0"]) {
    const canvas = $(`canvas.${name}`);
    const rings = [...canvas.parentElement.querySelectorAll(".ring")];
    chosen.forEach((pixel, i) => {
      const ring = rings[i] || canvas.parentElement.appendChild(Object.assign(document.createElement("i"), { className: "ring" }));
      const left = (pixel.sample % run.columns) * (width + 1) + pixel.column + 0.5;
      const top = Math.floor(pixel.sample / run.columns) * (height + 1) + pixel.row + 0.5;
      ring.style.left = `${canvas.offsetLeft + (left / canvas.width) * canvas.clientWidth}px`;
      ring.style.top = `${canvas.offsetTop + (top / canvas.height) * canvas.clientHeight}px`;
      ring.style.borderColor = MARKS[i];
    });
  }
}

// --- plots: Plotly draws axes and what stands still, a canvas over it what moves -------------------------------------

let planePlot = null, pixelPlot = null;

function theme() {
  const style = getComputedStyle(player);
  const ink = style.getPropertyValue("--body-text-color").trim() || "#222";
  const line = style.getPropertyValue("--border-color-primary").trim() || "#ccc";
  const axis = { color: ink, gridcolor: line, zerolinecolor: line };
  return { ink, layout: { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink,
    ...Object.fromEntries(["xaxis", "yaxis"].flatMap((a) => Object.entries(axis).map(([k, v]) => [`${a}.${k}`, v]))) } };
}

async function plot(div, traces, layout, paintOver) {
  const base = { margin: { l: 52, r: 12, t: 12, b: 58 }, dragmode: "pan", font: { size: 12 }, hovermode: "closest", ...layout };
  await Plotly.newPlot(div, traces, base, { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
  const { xaxis, yaxis } = div._fullLayout;
  await Plotly.relayout(div, { "xaxis.range": [...xaxis.range], "yaxis.range": [...yaxis.range], ...theme().layout });
  const canvas = div.appendChild(Object.assign(document.createElement("canvas"), { className: "over" }));
  const over = canvas.getContext("2d");
  function drawOver() {
    const ratio = window.devicePixelRatio || 1, [w, h] = [div.clientWidth, div.clientHeight];
    canvas.width = w * ratio; canvas.height = h * ratio;
    canvas.style.width = `${w}px`; canvas.style.height = `${h}px`;
    over.scale(ratio, ratio);
    const { xaxis: ax, yaxis: ay } = div._fullLayout;
    over.beginPath();
    over.rect(ax._offset, ay._offset, ax._length, ay._length);
    over.clip();
    if (frames.length) paintOver(over, (x) => ax._offset + ax.l2p(x), (y) => ay._offset + ay.l2p(y));
  }
  div.on("plotly_afterplot", drawOver);
  div.on("plotly_relayouting", drawOver);
  return { div, draw: drawOver, still: traces.length };
}

function way() { return $(".predicted").checked ? "path0" : "path"; }

function colour(i) { return run.labels[i] < setup.colours.length ? setup.colours[run.labels[i]] : theme().ink; }

function paintPlane(over, toX, toY) {
  const key = way();
  const pictures = $(key === "path" ? "canvas.x" : "canvas.x0");
  const side = run.labels.length > 10 ? 20 : 28;
  over.imageSmoothingEnabled = false;
  run.labels.forEach((label, i) => {
    over.strokeStyle = over.fillStyle = colour(i);
    over.lineWidth = 2;
    over.beginPath();
    for (let k = 0; k <= position; k++) over.lineTo(toX(frames[k][key][2 * i]), toY(frames[k][key][2 * i + 1]));
    over.stroke();
    const left = (i % run.columns) * (width + 1), top = Math.floor(i / run.columns) * (height + 1);
    const x = toX(frames[position][key][2 * i]) - side / 2, y = toY(frames[position][key][2 * i + 1]) - side / 2;
    over.fillRect(x - 2, y - 2, side + 4, side + 4);
    over.drawImage(pictures, left, top, width, height, x, y, side, side);
  });
}

function pixelValue(frame, key, pixel) {
  return frame[key][pixel.sample * size + pixel.row * width + pixel.column] / setup.scale;
}

function paintPixels(over, toX, toY) {
  chosen.forEach((pixel, i) => {
    over.strokeStyle = MARKS[i];
    for (const [key, dash] of [["x", []], ["x0", [2, 3]]]) {
      over.setLineDash(dash);
      over.lineWidth = 2;
      over.beginPath();
      for (let k = 0; k <= position; k++) over.lineTo(toX(frames[k].index), toY(pixelValue(frames[k], key, pixel)));
      over.stroke();
    }
  });
  over.setLineDash([]);
  over.strokeStyle = theme().ink;
  over.lineWidth = 1;
  over.beginPath();
  over.moveTo(toX(frames[position].index), 0);
  over.lineTo(toX(frames[position].index), 2000);
  over.stroke();
}

function restartPlots() {
  clearTraces();
  if (pixelPlot) Plotly.relayout(pixelPlot.div, { "xaxis.range": [run.run.steps, 0] });
}

function clearTraces() {
  for (const one of [planePlot, pixelPlot]) {
    if (!one) continue;
    const extra = one.div.data.map((_, i) => i).slice(one.still);
    if (extra.length) Plotly.deleteTraces(one.div, extra);
  }
}

// At rest the run stands in the plots as Plotly traces too: values on hover, zoom, save as PNG.
function restPlots() {
  if (!planePlot || !frames.length) return;
  clearTraces();
  const key = way(), steps = frames.map((frame) => frame.index);
  Plotly.addTraces(planePlot.div, run.labels.map((label, i) => ({
    x: frames.map((frame) => frame[key][2 * i]), y: frames.map((frame) => frame[key][2 * i + 1]), text: steps.map(String),
    mode: "lines+markers", line: { color: colour(i), width: 1 }, marker: { size: 3, color: colour(i) }, opacity: 0.45,
    name: `picture ${i + 1} (${run.names[label]})`, showlegend: false,
    hovertemplate: "t = %{text}<br>%{x:.2f}, %{y:.2f}",
  })));
  Plotly.addTraces(pixelPlot.div, chosen.flatMap((pixel, i) => ["x", "x0"].map((name) => ({
    x: steps, y: frames.map((frame) => pixelValue(frame, name, pixel)), mode: "lines", opacity: 0.9,
    line: { color: MARKS[i], width: 1.5, dash: name === "x" ? "solid" : "dot" },
    name: `picture ${pixel.sample + 1}, row ${pixel.row}, column ${pixel.column}: ${name === "x" ? "x<sub>t</sub>" : "x̂<sub>0</sub>"}`,
    showlegend: name === "x", hovertemplate: "t = %{x}: %{y:.2f}",
  }))));
}

async function openPlots() {
  if (!window.Plotly) {
    await new Promise((resolve, reject) => {
      const script = Object.assign(document.createElement("script"), { src: setup.plotly, onload: resolve, onerror: reject });
      document.head.appendChild(script);
    });
  }
  planePlot = await plot($(".plane"), setup.plane.data, { ...setup.plane.layout, template: {} }, paintPlane);
  pixelPlot = await plot($(".pixels"), [], {
    xaxis: { title: { text: "step t: noise at T, data at 0" }, range: [50, 0] },
    yaxis: { title: { text: "value of the pixel" }, range: [-3.5, 3.5] },
    legend: { orientation: "h", y: 1, x: 0, bgcolor: "rgba(127,127,127,0.15)" },
  }, paintPixels);
  if (run) restartPlots();
  if (run && !playing) restPlots();
  player.dataset.plots = "ready";
  new MutationObserver(() => [planePlot, pixelPlot].forEach((one) => Plotly.relayout(one.div, theme().layout)))
    .observe(document.body, { attributes: true, attributeFilter: ["class"] });
}

// --- controls ----------------------------------------------------------------------------------------------------

playButton.addEventListener("click", () => setPlaying(!playing));
$(".back").addEventListener("click", () => moveTo(position - 1));
$(".forward").addEventListener("click", () => moveTo(position + 1));
slider.addEventListener("input", () => moveTo(Number(slider.value)));
$(".predicted").addEventListener("change", () => { if (playing) planePlot?.draw(); else restPlots(); });
$("canvas.x").addEventListener("click", choose);
$("canvas.x0").addEventListener("click", choose);
window.addEventListener("resize", () => { if (run) refresh(); });
player.addEventListener("keydown", (event) => {
  const tag = event.target.tagName, keys = {
    " ": tag === "BUTTON" || tag === "INPUT" ? null : () => setPlaying(!playing),
    ArrowLeft: tag === "INPUT" || tag === "SELECT" ? null : () => moveTo(position - 1),
    ArrowRight: tag === "INPUT" || tag === "SELECT" ? null : () => moveTo(position + 1),
  };
  if (!frames.length || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

watch("value", () => receive(props.value));
receive(props.value);
openPlots().catch((error) => {
  $(".plots").textContent = "The plots could not be loaded; the pictures work without them.";
  console.warn(error);
});
