// What all lessons' scripts share: messages, the address, numbers in words, plots. A lesson's own script follows in the
// same scope, after clock.js if it shows a run in time. Whichever comes last defines: refresh() to draw anew, holds()
// whether there is anything to draw yet, and opened() for what is to be done once the plots stand. Gradio gives the
// script `element`, `props`, `trigger` and `watch`.
const setup = JSON.parse(props.setup);
const $ = (selector) => element.querySelector(selector);
const player = $(".player");
const plots = [];

// --- messages ----------------------------------------------------------------------------------------------------

// Hands each line of the component's value, now and whenever it changes, to receive: a message.
function hear(receive) {
  const all = () => (props.value || "").split("\n").filter(Boolean).forEach(receive);
  watch("value", all);
  all();
}

// The header of a message, and the bytes after it.
function parse(message) {
  const cut = message.indexOf("|");
  return [JSON.parse(message.slice(0, cut)), decodeBase64(message.slice(cut + 1))];
}

function decodeBase64(payload) {
  const text = atob(payload), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function notify(sentences) {
  const notes = $(".notes");
  notes.hidden = !sentences.length;
  notes.replaceChildren(...sentences.map((sentence) => Object.assign(document.createElement("div"), { textContent: sentence })));
}

// What is told of a run that has not begun yet: its place in the queue, or why it does not begin.
function foretell(header) {
  const told = header.note || header.problem;
  if (told) notify([told]);
}

function writeAddress(query) {
  const address = new URL(window.location);
  Object.entries(query).forEach(([name, value]) => address.searchParams.set(name, value));
  replaceAddress(address);
}

function percent(share) {
  const digits = share > 0 && share < 0.001 ? 4 : share < 0.1 || (share > 0.99 && share < 1) ? 2 : 0;
  return `${(100 * share).toFixed(digits)} %`;
}

// A number for people: a true minus, none before nothing.
const signed = (value, digits = 2) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");

// --- what is typed -------------------------------------------------------------------------------------------------

// Enter counts as leaving a number's box; what is more than a slider can be is its end, which Gradio would refuse. A
// list closes as Tab leaves it; Gradio would take that for a letter typed, and open it again.
const typedIn = (target) => target.matches?.("input[type=number]") && target.closest(".block")?.querySelector("input[type=range]");

function onTyped(event) {
  if (!element.isConnected) return ["input", "keydown"].forEach((kind) => document.removeEventListener(kind, onTyped, true));
  if (event.key === "Tab" && event.target.role === "combobox") event.stopPropagation();
  const range = typedIn(event.target);
  if (!range) return;
  if (event.type === "keydown" && event.key === "Enter") event.target.blur();
  if (event.type === "input" && Number(event.target.value) > Number(range.max)) event.target.value = range.max;
}

["input", "keydown"].forEach((kind) => document.addEventListener(kind, onTyped, true));

// --- plots: Plotly draws axes and what stands still, a canvas over it what moves -------------------------------------

const colours = () => { // after the theme, not once a particle
  const style = getComputedStyle(player);
  return (name) => style.getPropertyValue(`--${name}`).trim();
};

// "1.2e-7" as 1.2 · 10⁻⁷.
const scientific = (text) => text.replace(/e\+?(.*)/, (_, power) => ` · 10${[...power].map((digit) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(digit)]).join("")}`);

const number = (value) => scientific(value.toPrecision(2).replace(/\.?0+$/, (zeros) => (zeros[0] === "." ? "" : zeros)));

const CONFIG = { responsive: true, displaylogo: false, showSendToCloud: false }; // no chart leaves the page

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function theme() {
  const style = getComputedStyle(player);
  const ink = style.getPropertyValue("--body-text-color").trim() || "#222";
  const line = style.getPropertyValue("--border-color-primary").trim() || "#ccc";
  const axis = { color: ink, gridcolor: line, zerolinecolor: line }, lecture = document.body.classList.contains("lecture"), size = lecture ? 18 : 12;
  return { ink, size, layout: { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink, "font.size": size, "yaxis.automargin": lecture,
    ...Object.fromEntries(["xaxis", "yaxis"].flatMap((a) => Object.entries(axis).map(([k, v]) => [`${a}.${k}`, v]))) } };
}

function followTheme() {
  player.classList.toggle("dark", document.body.classList.contains("dark"));
  plots.forEach((one) => Plotly.relayout(one.div, theme().layout));
  refresh();
}

async function loadPlotly() {
  if (!window.Plotly) await load(setup.plotly);
}

function load(src) {
  return new Promise((resolve, reject) => {
    document.head.appendChild(Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject }));
  });
}

// A plot whose moving part paintOver(context, toX, toY) draws; toX and toY take data to pixels.
async function plot(div, traces, layout, paintOver) {
  const finger = window.matchMedia("(pointer: coarse)").matches; // which scrolls the page over a plot, too
  const base = { margin: { l: 52, r: 12, t: 12, b: 58 }, dragmode: finger ? false : "pan", modebar: { bgcolor: "rgba(0,0,0,0)" }, font: { size: 12 }, hovermode: "closest", ...layout };
  await Plotly.newPlot(div, traces, base, { ...CONFIG, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
  div._context._baseUrl = ""; // else Plotly ties its clip paths to the address of now, and they end when it changes
  const { xaxis, yaxis } = div._fullLayout;
  await Plotly.relayout(div, { "xaxis.range": [...xaxis.range], "yaxis.range": [...yaxis.range], ...theme().layout });
  const canvas = div.appendChild(Object.assign(document.createElement("canvas"), { className: "over" }));
  const over = canvas.getContext("2d");
  function drawOver() {
    const ratio = window.devicePixelRatio || 1, [w, h] = [div.clientWidth, div.clientHeight];
    const [wide, high] = [w, h].map((length) => Math.round(length * ratio));
    if (canvas.width !== wide || canvas.height !== high) {
      [canvas.width, canvas.height] = [wide, high];
      [canvas.style.width, canvas.style.height] = [`${w}px`, `${h}px`];
    }
    over.reset();
    over.scale(ratio, ratio);
    const { xaxis: ax, yaxis: ay } = div._fullLayout;
    over.beginPath();
    over.rect(ax._offset, ay._offset, ax._length, ay._length);
    over.clip();
    if (holds()) paintOver(over, (x) => ax._offset + ax.l2p(x), (y) => ay._offset + ay.l2p(y));
  }
  const fits = () => div.clientWidth === Math.round(div._fullLayout.width) && div.clientHeight === Math.round(div._fullLayout.height);
  new ResizeObserver(() => { if (div.clientWidth && !fits()) Plotly.Plots.resize(div); }).observe(div);
  div.on("plotly_afterplot", drawOver);
  div.on("plotly_relayouting", drawOver);
  const one = { div, draw: drawOver, still: traces.length };
  plots.push(one);
  return one;
}

function paintLines(over, toX, toY, lines, colour, width) {
  over.strokeStyle = colour;
  over.lineWidth = width;
  over.beginPath();
  for (const [x, y, u, v] of lines) { over.moveTo(toX(x), toY(y)); over.lineTo(toX(u), toY(v)); }
  over.stroke();
}

async function openPlots(build) {
  try {
    await loadPlotly();
    await build();
    followTheme();
    opened();
    player.dataset.plots = "ready";
    new MutationObserver(followTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  } catch (error) {
    $(".plots").textContent = "The plots could not be loaded.";
    console.warn(error);
  }
}

