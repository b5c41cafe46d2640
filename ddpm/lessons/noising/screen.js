// The noising lesson's screen. There is no run in time: every change of a setting is answered by a message of pictures.
import { writeAddress } from "../../page/components/address.js";
import { paintLines, parse, stage } from "../../page/components/shared.js";
import { paintPicture, pictures } from "../../page/components/tiles.js";
import { percent, signed } from "../../page/components/words.js";

const NAMES = ["x0", "noise", "x", "noise-hat", "x0-hat"];
const WAYS = [["jump", "one jump", "signal"], ["chain", "step by step", "chain"], ["mix", "mixing, Gaussian noise", "mix"], ["mix-uniform", "mixing, uniform noise", "uniform"]];
const HIGHEST = 1; // of the histogram's axis: bars that go beyond it say how far
const plusMinus = (value, error) => `${signed(value, 4)} ± ${error.toFixed(4)}`;
const nearest = (steps, t) => steps.reduce((best, step, i) => (Math.abs(step - t) < Math.abs(steps[best] - t) ? i : best), 0);
function tableRow(cells, below) {
  const row = document.createElement("tr");
  cells.forEach((text, i) => {
    const cell = row.appendChild(document.createElement(i ? "td" : "th"));
    if (!i) cell.scope = "row";
    cell.append(text, Object.assign(document.createElement("small"), { textContent: below[i] ?? "" }));
  });
  return row;
}

export function mount(gradio) {
  const { setup, $, player, listen, notify, colours, theme, redraw, plot, openPlots } = stage(gradio, { holds: () => moment !== null, refresh: () => { fillPlots(); redraw(); } });
  let begun = null, moment = null, measured = null; // headers: of the newest message, of what is shown
  let looked = -1, agreement = null, power = null, bars = [], writing = 0;

  // --- messages ----------------------------------------------------------------------------------------------------

  // Moving t and changing the rest are separate jobs, so that what takes long goes on while t moves.
  function receive(message) {
    const [header, bytes] = parse(message);
    if (header.kind === "start") start(header);
    else if (header.kind === "strip" && header.job === looked) showStrip(header, bytes);
    else if (header.kind === "moment" && header.job === begun?.job) showMoment(header, bytes);
    else if (header.kind === "measured" && header.job === looked) showMeasured(header, bytes);
    else if (header.kind === "end" && header.problem) notify([...begun.notes, header.problem]);
    else if (header.kind === "waiting" && header.job === begun?.job) notify([...begun.notes, header.note]);
  }

  function start(header) {
    if (begun && header.job < begun.job) return;
    begun = header;
    if (header.all) [looked, measured] = [header.job, null];
    clearTimeout(writing);
    writing = setTimeout(() => writeAddress(begun.query), 300); // browsers allow a hundred changes in half a minute
  }

  function showMoment(header, bytes) {
    moment = header;
    notify(begun.notes);
    const count = setup.bins * 4, values = new Float32Array(bytes.buffer, 0, setup.bins);
    bars = [...values];
    pictures(bytes.subarray(count), header.shape).forEach((picture, i) => paintPicture($(`canvas.${NAMES[i]}`), picture, header.shape));
    const { t, signal, std, alphaBar } = header, uniform = begun.run.way === "mix-uniform";
    $(".step").textContent = `step t = ${t} of ${begun.run.steps}`;
    $(".level").textContent = `xₜ = ${signal.toFixed(3)} · x₀ + ${std.toFixed(3)} · ε${uniform ? " of variance 1" : ""}  ·  signal left: ${percent(alphaBar)}  ·  log-SNR λ = ${header.logSnr === null ? "−∞" : signed(header.logSnr)}`;
    $(".share .signal").style.width = `${100 * alphaBar}%`;
    $(".share").setAttribute("aria-label", `${percent(alphaBar)} signal, the rest noise`);
    $(".noise-kind").textContent = uniform ? "uniform, not Gaussian" : "";
    $(".noise-error").textContent = header.errors.noise === null ? "all is noise: nothing to predict" : `RMS error ${header.errors.noise.toFixed(2)}`;
    $(".x0-error").textContent = `RMS error ${header.errors.x0.toFixed(2)}`;
    $(".of-histogram").textContent = `Mean ${signed(header.mean)}, variance ${header.variance.toFixed(2)}.`;
    player.dataset.t = t;
    player.dataset.moment = header.job;
    markStrip();
    tabulate();
    redraw();
  }

  // --- the strip ---------------------------------------------------------------------------------------------------

  function showStrip(header, bytes) {
    const row = $(".strip");
    while (row.children.length > header.steps.length) row.lastChild.remove();
    while (row.children.length < header.steps.length) row.append(level());
    pictures(bytes, header.shape).forEach((picture, i) => {
      const button = row.children[i], [t, left] = [header.steps[i], percent(header.alphaBars[i])];
      paintPicture(button.querySelector("canvas"), picture, header.shape);
      [button.querySelector(".at").textContent, button.querySelector(".left").textContent] = [`t = ${t}`, `${left} signal`];
      button.dataset.t = t;
    });
    player.dataset.strip = header.job;
    markStrip();
  }

  function level() {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.append(document.createElement("canvas"), ...["at", "left"].map((name) => Object.assign(document.createElement("span"), { className: name })));
    button.addEventListener("click", () => gradio.trigger("select", { t: Number(button.dataset.t) }));
    return button;
  }

  function markStrip() {
    for (const button of $(".strip").children) button.setAttribute("aria-pressed", moment && Number(button.dataset.t) === moment.t);
  }

  // --- what many draws are -----------------------------------------------------------------------------------------

  function showMeasured(header, bytes) {
    const values = new Float32Array(bytes.buffer), each = WAYS.length * header.steps.length;
    const part = (i) => Array.from({ length: WAYS.length }, (_, w) => [...values.subarray(i * each + w * header.steps.length, i * each + (w + 1) * header.steps.length)]);
    const [factor, variance, factorError, varianceError, factorTrue, varianceTrue] = [0, 1, 2, 3, 4, 5].map(part);
    measured = { ...header, factor, variance, factorError, varianceError, factorTrue, varianceTrue };
    $(".of-measured").textContent = `${header.draws} draws of every pixel.`;
    player.dataset.measured = header.job;
    fillPlots();
    tabulate();
  }

  function tabulate() {
    const rows = $(".numbers tbody");
    if (!measured || !moment) {
      $(".measured-at").textContent = "";
      rows.replaceChildren(...WAYS.map(([, name]) => tableRow([name, "measuring …", "", ""], [])));
      $(".verdict").textContent = "";
      return;
    }
    const k = nearest(measured.steps, moment.t), at = (values, w) => values[w][k];
    $(".measured-at").textContent = `at t = ${measured.steps[k]}${measured.steps[k] === moment.t ? "" : ", the nearest that was measured"}`;
    rows.replaceChildren(...WAYS.map(([, name], w) => {
      const [f, v] = [at(measured.factor, w), at(measured.variance, w)], [trueF, trueV] = [at(measured.factorTrue, w), at(measured.varianceTrue, w)];
      return tableRow([name, plusMinus(f, at(measured.factorError, w)), plusMinus(v, at(measured.varianceError, w)), (f * f + v).toFixed(3)],
        ["formula", trueF.toFixed(4), trueV.toFixed(4), (trueF * trueF + trueV).toFixed(3)]);
    }));
    const off = Math.abs(at(measured.factor, 1) - at(measured.factor, 0)) / Math.hypot(at(measured.factorError, 0), at(measured.factorError, 1));
    const apart = Math.abs(at(measured.variance, 1) - at(measured.variance, 0)) / Math.hypot(at(measured.varianceError, 0), at(measured.varianceError, 1));
    $(".verdict").textContent = `Chain and jump differ by ${off.toFixed(1)} and ${apart.toFixed(1)} standard errors here; up to about 2 is what chance gives. "Sum" is factor² + variance: 1 means that the variance is kept.`;
  }

  // --- plots -------------------------------------------------------------------------------------------------------

  function paintHistogram(over, toX, toY) {
    const wide = (2 * setup.edge) / setup.bins, colour = colours();
    over.globalAlpha = 0.55;
    over.fillStyle = colour("signal");
    bars.forEach((height, i) => {
      const left = toX(i * wide - setup.edge), top = toY(Math.min(height, HIGHEST));
      over.fillRect(left, top, toX((i + 1) * wide - setup.edge) - left, toY(0) - top);
    });
    over.globalAlpha = 1;
    over.strokeStyle = colour("noise");
    over.lineWidth = 2.5;
    over.beginPath();
    for (let x = -setup.edge; x <= setup.edge; x += 0.05) over.lineTo(toX(x), toY(Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)));
    over.stroke();
    const tallest = bars.indexOf(Math.max(...bars));
    if (bars[tallest] <= HIGHEST) return;
    const x = toX((tallest + 0.5) * wide - setup.edge);
    over.fillStyle = theme().ink;
    over.font = "12px sans-serif";
    over.textAlign = "left";
    over.fillText(`↑ ${percent(bars[tallest] * wide)} of all pixels`, x + 8, toY(HIGHEST) + 14);
  }

  function paintNow(over, toX, toY) {
    paintLines(over, toX, toY, [[moment.t, -1, moment.t, 2]], theme().ink, 1);
  }

  function fillPlots() {
    if (!power || !measured) return;
    const colour = colours(), { steps } = measured, every = Math.max(Math.round(steps.length / 25), 1);
    const marks = steps.map((_, i) => i).filter((i) => i % every === 0 || i === steps.length - 1);
    const line = (y, name, paint) => ({ x: steps, y, name, mode: "lines", line: { color: colour(paint), width: 2 } });
    const dots = (y, name, paint, symbol, error) => ({ x: marks.map((i) => steps[i]), y: marks.map((i) => y[i]), name, mode: "markers",
      marker: { color: colour(paint), symbol, size: 8, line: { width: symbol.endsWith("open") ? 1.5 : 0 } },
      error_y: error && { type: "data", array: marks.map((i) => 2 * error[i]), thickness: 1, width: 0, color: colour(paint) } });
    const { factor, variance, factorError, varianceError, factorTrue, varianceTrue } = measured;
    draw(agreement, [
      line(factorTrue[0], "factor √ᾱ, formula", "signal"), line(varianceTrue[0], "variance 1 − ᾱ, formula", "noise"),
      dots(factor[1], "factor, chain", "signal", "circle-open", factorError[1]), dots(factor[0], "factor, jump", "signal", "x-thin-open", factorError[0]),
      dots(variance[1], "variance, chain", "noise", "circle-open", varianceError[1]), dots(variance[0], "variance, jump", "noise", "x-thin-open", varianceError[0]),
    ]);
    const sum = (f, v) => f.map((value, i) => value * value + v[i]);
    draw(power, WAYS.flatMap(([, name, paint], w) => (w === 1 ? [] : [
      line(sum(factorTrue[w], varianceTrue[w]), w ? name : "noising", paint), { ...dots(sum(factor[w], variance[w]), name, paint, "circle"), showlegend: false },
    ])));
  }

  function draw(one, traces) {
    Plotly.react(one.div, traces, { ...one.div.layout, xaxis: { ...one.div.layout.xaxis, range: [0, begun.run.steps] } });
  }

  openPlots(async () => {
    const margin = { l: 46, r: 10, t: 8, b: 42 }, legend = { orientation: "h", y: -0.24, yanchor: "top", font: { size: 11 } };
    const still = { dragmode: false, margin, showlegend: false };
    const steps = { title: { text: "step t", standoff: 4 }, range: [0, 1000], zeroline: false, fixedrange: true };
    const share = (title, top) => ({ title: { text: title, standoff: 4 }, range: [0, top], fixedrange: true });
    await plot($(".histogram"), [], { ...still, xaxis: { title: { text: "value of a pixel", standoff: 4 }, range: [-setup.edge, setup.edge], fixedrange: true }, yaxis: share("density", HIGHEST) }, paintHistogram);
    agreement = await plot($(".agreement"), [], { ...still, margin: { ...margin, b: 96 }, showlegend: true, legend, xaxis: steps, yaxis: share("factor, variance", 1.08) }, paintNow);
    power = await plot($(".power"), [], { ...still, margin: { ...margin, b: 70 }, showlegend: true, legend, xaxis: steps, yaxis: share("variance", 1.15) }, paintNow);
  });

  listen(receive);
}
