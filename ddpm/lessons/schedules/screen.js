// The schedules lesson's screen: five plots of all schedules, strips of pictures, and handles to drag the table's curve.
import { writeAddress } from "../../page/components/address.js";
import { parse, stage } from "../../page/components/shared.js";
import { paintPicture, pictures } from "../../page/components/tiles.js";
import { percent } from "../../page/components/words.js";
import { moved } from "./handles.js";

const LABELS = { linear: "linear", cosine: "cosine", polynomial: "polynomial", sigmoid: "sigmoid", constant: "constant", table: "your own table" };
const DASHES = { linear: "solid", cosine: "dash", polynomial: "dot", sigmoid: "dashdot", constant: "longdash", table: "solid" };
const STROKES = { solid: "none", dash: "7 4", dot: "2 3", dashdot: "8 3 2 3", longdash: "12 5" }; // the same in the list
const AXES = { // the lines' axes never move, but for T
  alpha_bar: { range: [-0.06, 1.03], title: { text: "ᾱ" } }, one_minus_alpha_bar: { range: [0, 1.02], title: { text: "1 − ᾱ" } },
  sqrt_alpha_bar: { range: [0, 1.02], title: { text: "√ᾱ" } }, beta: { type: "log", range: [-5.2, 0.1], title: { text: "β" }, tickvals: [1, 0.1, 0.01, 0.001, 1e-4, 1e-5], ticktext: ["1", "0.1", "0.01", "0.001", "10⁻⁴", "10⁻⁵"] },
  log_snr: { range: [-15, 15], title: { text: "λ" } },
};
const START = { alpha_bar: 1, one_minus_alpha_bar: 0, sqrt_alpha_bar: 1 }; // at t = 0; there λ is infinite, and β of step 0 is none

export function mount(gradio) {
  const { setup, $, player, listen, notify, colours, redraw, plot, openPlots } = stage(gradio, { holds: () => compared !== null, refresh: () => { fillPlots(); redraw(); } });
  let begun = null, compared = null, quantityPlots = {};
  let handles = [], dragged = null, sent = false, changed = false, writing = 0;

  // --- messages ----------------------------------------------------------------------------------------------------

  function receive(message) {
    const [header, bytes] = parse(message);
    if (header.kind === "start" && !(begun && header.job < begun.job)) start(header);
    else if (header.job !== begun?.job) return;
    else if (header.kind === "compared") show(header, bytes);
    else if (header.kind === "waiting") notify([...begun.notes, header.note]);
    else if (header.kind === "end" && header.problem) notify([...begun.notes, header.problem]);
  }

  function start(header) {
    begun = header;
    clearTimeout(writing);
    writing = setTimeout(() => writeAddress(begun.query), 300); // browsers allow a hundred changes in half a minute
  }

  function show(header, bytes) {
    const { steps, stripSteps, shape } = header, count = setup.names.length * setup.quantities.length * steps.length;
    const values = new Float32Array(bytes.buffer, 0, count);
    const line = (i) => [...values.subarray(i * steps.length, (i + 1) * steps.length)];
    compared = { ...header, lines: setup.names.map((_, n) => setup.quantities.map((_, q) => line(n * setup.quantities.length + q))) };
    notify(begun.notes);
    const tiles = pictures(bytes.subarray(4 * count), shape), rows = $(".rows");
    while (rows.children.length < setup.names.length) rows.append(row(setup.names[rows.children.length]));
    setup.names.forEach((name, n) => fillRow(rows.children[n], name, header, tiles.slice(n * stripSteps.length, (n + 1) * stripSteps.length)));
    if (dragged === null && !changed) handles = header.handles; // else the visitor is ahead of this answer
    placeButtons();
    fillPlots();
    fillLinks();
    caption();
    sent = false;
    if (changed) publish();
    player.dataset.compared = header.job;
    player.dataset.schedule = begun.run.schedule;
  }

  // --- strips ------------------------------------------------------------------------------------------------------

  function row(name) {
    const line = Object.assign(document.createElement("div"), { className: "curve" });
    const button = line.appendChild(Object.assign(document.createElement("button"), { type: "button" }));
    button.innerHTML = `<b><svg viewBox="0 0 34 6"><path d="M0 3h34" stroke-dasharray="${STROKES[DASHES[name]]}"/></svg>${LABELS[name]}</b><small></small>`;
    line.append(Object.assign(document.createElement("div"), { className: "strip" }));
    line.style.setProperty("--own", `var(--${name})`);
    line.dataset.name = name;
    button.addEventListener("click", () => gradio.trigger("select", { schedule: name }));
    return line;
  }

  function fillRow(line, name, { left, shape, stripSteps }, tiles) {
    const strip = line.querySelector(".strip"), chosen = name === begun.run.schedule;
    while (strip.children.length > tiles.length) strip.lastChild.remove();
    while (strip.children.length < tiles.length) strip.append(document.createElement("canvas"));
    tiles.forEach((bytes, i) => {
      const canvas = strip.children[i];
      paintPicture(canvas, bytes, shape);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${LABELS[name]}, t = ${stripSteps[i]}`);
      canvas.title = `t = ${stripSteps[i]}`;
    });
    line.querySelector("small").textContent = `${percent(left[name])} signal at t = T`;
    line.dataset.chosen = chosen;
    line.querySelector("button").setAttribute("aria-pressed", chosen);
  }

  function fillLinks() {
    const query = new URLSearchParams(begun.own), chosen = LABELS[begun.run.schedule];
    $(".links").replaceChildren(`Use ${chosen} on: `, ...setup.pages.flatMap(([name, path]) => [
      Object.assign(document.createElement("a"), { href: `${path || "."}?${query}`, textContent: name }), " "]));
  }

  function caption() {
    const first = handles.length ? "Drag a ring, or focus it and press ↑ or ↓, to bend your own curve." : "Press Bend the chosen curve to get rings that you can drag.";
    $(".caption").textContent = `Thick: the chosen schedule, ${LABELS[begun.run.schedule]}. ${first}`;
  }

  // --- plots -------------------------------------------------------------------------------------------------------

  function fillPlots() {
    if (!quantityPlots.log_snr || !compared) return;
    const colour = colours(), { steps } = compared;
    setup.quantities.forEach((quantity, q) => {
      const start = quantity in START ? [START[quantity]] : [], t = [...start.map(() => 0), ...steps];
      const traces = setup.names.map((name, n) => ({
        x: t, y: [...start, ...compared.lines[n][q]], name: LABELS[name], mode: t.length === 1 ? "markers" : "lines",
        line: { color: colour(name), dash: DASHES[name], width: name === begun.run.schedule ? 4 : 1.8 }, marker: { color: colour(name), size: 8 },
        hovertemplate: `${LABELS[name]}, t = %{x}: %{y:.4g}<extra></extra>`,
      }));
      const { div } = quantityPlots[quantity];
      Plotly.react(div, traces, { ...div.layout, xaxis: { ...div.layout.xaxis, range: [0, 1.02 * begun.run.steps] } });
    });
  }

  // --- handles -----------------------------------------------------------------------------------------------------

  // As many buttons as handles, each a slider for the keyboard and for readers of the screen.
  function placeButtons() {
    const div = $(".plot.alpha_bar"), buttons = [...div.querySelectorAll(".handle")];
    buttons.slice(handles.length).forEach((button) => button.remove());
    for (let k = buttons.length; k < handles.length; k++) div.append(handle(k));
    quantityPlots.alpha_bar?.draw();
  }

  function handle(k) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "handle" });
    Object.entries({ role: "slider", "aria-valuemin": 0, "aria-valuemax": 1, "aria-orientation": "vertical" }).forEach(([name, value]) => button.setAttribute(name, String(value)));
    button.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      button.focus();
      button.setPointerCapture(event.pointerId);
      dragged = k;
    });
    button.addEventListener("pointermove", (event) => {
      if (dragged !== k) return;
      const div = $(".plot.alpha_bar"), { yaxis } = div._fullLayout;
      move(k, yaxis.p2l(event.clientY - div.getBoundingClientRect().top - yaxis._offset));
    });
    for (const name of ["pointerup", "pointercancel"]) button.addEventListener(name, () => { dragged = null; });
    button.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 0.01, ArrowDown: -0.01, PageUp: 0.1, PageDown: -0.1 }[event.key];
      if (!by) return;
      event.preventDefault();
      move(k, handles[k] + by);
    });
    return button;
  }

  function move(k, share) {
    handles = moved(handles, k, share);
    quantityPlots.alpha_bar.draw();
    publish();
  }

  // One change is under way at a time; the newest follows once it is answered.
  function publish() {
    changed = sent;
    if (sent) return;
    sent = true;
    gradio.trigger("select", { handles });
  }

  function paintHandles(_, toX, toY) {
    [...$(".plot.alpha_bar").querySelectorAll(".handle")].forEach((button, k) => {
      const t = ((k + 1) / handles.length) * begun.run.steps, share = handles[k];
      [button.style.left, button.style.top] = [`${toX(t)}px`, `${toY(share)}px`];
      button.setAttribute("aria-label", `ᾱ of your own table at t = ${Math.round(t)}`);
      button.setAttribute("aria-valuenow", share.toFixed(3));
    });
  }

  openPlots(async () => {
    const still = { dragmode: false, showlegend: false, margin: { l: 50, r: 22, t: 10, b: 42 } };
    for (const quantity of setup.quantities) {
      const x = { title: { text: "step t", standoff: 4 }, range: [0, 1000], zeroline: false, fixedrange: true };
      quantityPlots[quantity] = await plot($(`.plot.${quantity}`), [], { ...still, xaxis: x, yaxis: { ...AXES[quantity], fixedrange: true } }, quantity === "alpha_bar" ? paintHandles : () => {});
    }
    placeButtons();
  });

  listen(receive);
}
