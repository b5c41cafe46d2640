// What all lessons' screens share: messages, the address, what is typed, plots. A screen stands on a stage.
import { decodeBase64 } from "./base64.js";

// The header of a message, and the bytes after it.
export function parse(message) {
  const cut = message.indexOf("|");
  return [JSON.parse(message.slice(0, cut)), decodeBase64(message.slice(cut + 1))];
}

export function paintLines(over, toX, toY, lines, colour, width) {
  over.strokeStyle = colour;
  over.lineWidth = width;
  over.beginPath();
  for (const [x, y, u, v] of lines) { over.moveTo(toX(x), toY(y)); over.lineTo(toX(u), toY(v)); }
  over.stroke();
}

export function load(src) {
  return new Promise((resolve, reject) => {
    document.head.appendChild(Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject }));
  });
}

export const CONFIG = { responsive: true, displaylogo: false, showSendToCloud: false }; // no chart leaves the page

// What a screen stands on. Its own refresh() draws anew, holds() says whether there is anything to draw yet, and opened() does
// what is to be done once the plots stand.
/**
 * @param {Gradio} gradio
 * @param {{ refresh?: () => void, holds?: () => boolean, opened?: () => void }} screen
 */
export function stage({ element, props, hear }, { refresh = () => {}, holds = () => false, opened = () => {} } = {}) {
  const setup = JSON.parse(props.setup), plots = [];
  /** @type {(selector: string) => any} */
  const $ = (selector) => element.querySelector(selector);
  const player = $(".player");

  // --- messages ----------------------------------------------------------------------------------------------------

  // Hands each line of the component's values, those until now and those to come, to receive: a message.
  const listen = (receive) => hear((lines) => (lines || "").split("\n").filter(Boolean).forEach(receive));

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

  function theme() {
    const style = getComputedStyle(player);
    const ink = style.getPropertyValue("--body-text-color").trim() || "#222";
    const line = style.getPropertyValue("--border-color-primary").trim() || "#ccc";
    const axis = { color: ink, gridcolor: line, zerolinecolor: line }, lecture = document.body.classList.contains("lecture"), size = lecture ? 18 : 12;
    return { ink, size, layout: { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink, "font.size": size, "yaxis.automargin": lecture,
      ...Object.fromEntries(["xaxis", "yaxis"].flatMap((a) => Object.entries(axis).map(([k, v]) => [`${a}.${k}`, v]))) } };
  }

  const redraw = () => plots.forEach((one) => one.draw());

  function followTheme() {
    player.classList.toggle("dark", document.body.classList.contains("dark"));
    plots.forEach((one) => Plotly.relayout(one.div, theme().layout));
    refresh();
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

  async function openPlots(build) {
    try {
      if (!window.Plotly) await load(setup.plotly);
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

  return { element, setup, $, player, plots, listen, notify, foretell, colours, theme, redraw, plot, openPlots };
}
