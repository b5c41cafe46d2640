// The line lesson's player: paths over p_t, the histogram and the denoiser's curves at the step shown.
import { mountPlayer } from "../../page/components/clock.js";
import { stacked } from "../../page/components/files.js";
import { number, percent, rgb, signed } from "../../page/components/words.js";

const NUMBERS = ["weight", "mean", "std"];
const ink = (name, text) => `<i style="color:var(--${name})">${text}</i>`;

export function mount(gradio) {
  const clock = mountPlayer(gradio, { begin, decode, paint, rest, show, arrays, views: () => [["Histories", heat], ["Where the samples are", histogram], [CURVES[layer.curve.value].axis, curves]].filter(([, { div }]) => div.clientWidth) });
  const { setup, $, player, listen, colours, theme, plot, openPlots, layer, receive } = clock;
  const cells = setup.axis.length, width = (2 * setup.edge) / setup.bins, VIEW = 8.5; // the axes show −VIEW … VIEW at first

  // What the curves can be, each derived from x̂₀, how its caption writes it, and how far its axis reaches at first.
  const CURVES = {
    noise: { of: (x, x0, a, s) => (x - a * x0) / s, formula: "ε̂(x) = (x − √ᾱ x̂₀) / √(1 − ᾱ)", axis: "ε̂", reach: () => 4 },
    x0: { of: (_, x0) => x0, formula: "x̂₀(x), the mean of all clean x behind a noisy one", axis: "x̂₀", reach: () => VIEW },
    score: { of: (x, x0, a, s) => -(x - a * x0) / s ** 2, formula: "∇ log p<sub>t</sub>(x) = −(x − √ᾱ x̂₀) / (1 − ᾱ)", axis: "score", reach: () => 4 / Math.min(clock.run.run.std, 1) },
  };

  let heat = null, histogram = null, curves = null;
  let densities = []; // p_t on the axis, a Float32Array a frame
  let fitted = null; // the steps and the peak that the axes were fitted to

  // --- messages ----------------------------------------------------------------------------------------------------

  function begin(bytes, stood) {
    if (!clock.run.samples) [clock.playing, clock.hold] = [false, Math.round(stood * (clock.run.frames - 1))];
    const unit = clock.run.peak / 65535, numbers = new Uint16Array(bytes.buffer);
    densities = Array.from({ length: clock.run.frames }, (_, k) => Float32Array.from(numbers.subarray(k * cells, (k + 1) * cells), (v) => v * unit));
    tabulate(null);
    if (curves) fillHeat();
  }

  function decode(header, bytes) {
    const field = (from) => new Float32Array(bytes.buffer, from, cells);
    const counts = new Uint16Array(bytes.buffer, 8 * cells, setup.bins), paths = new Int16Array(bytes.buffer, 8 * cells + 2 * setup.bins);
    if (header.modes) tabulate(header.modes);
    return { ...header, learned: field(0), exact: field(4 * cells), counts, paths };
  }

  // --- numbers -----------------------------------------------------------------------------------------------------

  // The table of both modes: sampled ± standard error once the run has ended, and what is true.
  function tabulate(modes) {
    const means = [clock.run.run.mean1, clock.run.run.mean2], middle = signed((means[0] + means[1]) / 2), below = means[0] <= means[1] ? 0 : 1;
    $(".numbers tbody").replaceChildren(...clock.run.truth.map((truth, k) => {
      const row = document.createElement("tr"), sampled = modes?.[k];
      const name = row.appendChild(Object.assign(document.createElement("th"), { scope: "row", textContent: `near ${signed(means[k], 1).replace(/\.0$/, "")}` }));
      name.append(Object.assign(document.createElement("small"), { textContent: `x ${k === below ? "<" : "≥"} ${middle}` }));
      for (const name of NUMBERS) {
        const cell = row.appendChild(document.createElement("td"));
        cell.className = name;
        cell.append(sampled ? `${signed(sampled[name], 3)} ± ${sampled.errors[name].toFixed(3)}` : "–");
        cell.append(Object.assign(document.createElement("small"), { textContent: `true ${signed(truth[name], 3)}` }));
      }
      return row;
    }));
  }

  // --- the curves --------------------------------------------------------------------------------------------------

  // The frame whose curves are drawn: at t = 0 no noise is left to predict, so there the step before stands.
  function curveFrame() {
    const shownFrame = clock.frames[clock.position];
    return shownFrame.logSnr === null ? clock.frames[clock.position - 1] : shownFrame;
  }

  function curve(frame, source) {
    const [a, s] = [Math.sqrt(frame.alphaBar), 1 / Math.sqrt(1 + Math.exp(frame.logSnr))], { of } = CURVES[layer.curve.value];
    return frame[source].map((x0, i) => of(setup.axis[i], x0, a, s));
  }

  // ‖learned − exact‖ and ‖exact‖ over x distributed as p_t.
  function errorOf(frame) {
    const [learned, exact, p] = [curve(frame, "learned"), curve(frame, "exact"), densities[clock.frames.indexOf(frame)]];
    const mean = (f) => Math.sqrt(p.reduce((sum, weight, i) => sum + weight * f(i) ** 2, 0) / p.reduce((sum, weight) => sum + weight, 0));
    return [mean((i) => learned[i] - exact[i]), mean((i) => exact[i])];
  }

  // --- the histogram -----------------------------------------------------------------------------------------------

  // Steps of the histogram's outline as [x, density] pairs; few samples get wider bins.
  function outline(frame) {
    const merged = clock.run.samples >= 5000 ? 2 : clock.run.samples >= 1000 ? 4 : 8, points = [];
    for (let first = 0; first < setup.bins; first += merged) {
      const count = frame.counts.subarray(first, first + merged).reduce((a, b) => a + b), height = count / (clock.run.samples * merged * width);
      points.push([first * width - setup.edge, height], [(first + merged) * width - setup.edge, height]);
    }
    return points;
  }

  const density = (k) => Array.from(densities[k], (p, i) => [setup.axis[i], p]);
  const last = () => (clock.ended && clock.frames.length === clock.run.frames ? clock.frames[clock.frames.length - 1] : null);

  // --- the canvas --------------------------------------------------------------------------------------------------

  const at = (values, i) => values[i] / setup.scale;
  const followed = () => (clock.run.samples ? Number(layer.paths.value) : 0);

  function paintHeat(over, toX, toY) {
    const now = toX(clock.frames[clock.position].index);
    paintWay(over, [[now, toY(-setup.edge)], [now, toY(setup.edge)]], theme().ink, 1);
    if (clock.resting) return;
    const colour = colours()("particles");
    over.globalAlpha = 0.6;
    for (let i = 0; i < followed(); i++) paintWay(over, wayOf(i).map(([t, x]) => [toX(t), toY(x)]), colour, 1.1);
    over.globalAlpha = 1;
    over.fillStyle = colour;
    for (let i = 0; i < followed(); i++) {
      over.beginPath();
      over.arc(now, toY(at(clock.frames[clock.position].paths, i)), 2.6, 0, 6.3);
      over.fill();
    }
  }

  // The way of sample i up to the step shown, as [t, x] pairs.
  const wayOf = (i) => clock.frames.slice(0, clock.position + 1).map((frame) => [frame.index, at(frame.paths, i)]);

  function paintWay(over, points, colour, width, closed = false) {
    over.beginPath();
    points.forEach(([x, y]) => over.lineTo(x, y));
    if (closed) {
      over.fillStyle = colour;
      over.fill();
    } else {
      over.strokeStyle = colour;
      over.lineWidth = width;
      over.stroke();
    }
  }

  function paintHistogram(over, toX, toY) {
    if (clock.resting) return;
    for (const { points, colour, width, opacity, closed, dash } of histogramLines()) {
      over.globalAlpha = opacity ?? 1;
      over.setLineDash(dash ? [5, 4] : []);
      paintWay(over, points.map(([x, y]) => [toX(x), toY(y)]), colour, width, closed);
    }
  }

  // What the histogram's view shows, in the order in which it is drawn, on the canvas and at rest alike.
  function histogramLines() {
    const colour = colours(), lines = [], frame = clock.frames[clock.position];
    const add = (name, points, about) => lines.push({ name, points, ...about });
    if (clock.run.samples) add("samples", [[-setup.edge, 0], ...outline(frame), [setup.edge, 0]], { colour: colour("particles"), opacity: 0.45, closed: true });
    if (layer.end.checked && frame.logSnr !== null) {
      if (last()) add("samples at the end", outline(last()), { colour: colour("particles"), width: 1, dash: true });
      add("true density at the end", density(clock.run.frames - 1), { colour: colour("data"), width: 1.5, dash: true });
    }
    add("true density pₜ", density(clock.position), { colour: colour("density"), width: 2.2 });
    return lines;
  }

  function paintCurves(over, toX, toY) {
    if (clock.resting) return;
    for (const { points, colour, width, opacity, closed } of curveLines()) {
      over.globalAlpha = opacity ?? 1;
      paintWay(over, points.map(([x, y]) => [toX(x), toY(y)]), colour, width, closed);
    }
  }

  // The same for the curves' view; the density stands on its lower edge, without a scale of its own.
  function curveLines() {
    const frame = curveFrame(), colour = colours();
    if (!frame) return [];
    const p = densities[clock.frames.indexOf(frame)], reach = CURVES[layer.curve.value].reach(), unit = (0.9 * reach) / p.reduce((a, b) => Math.max(a, b));
    const ground = [[-setup.edge, -reach], ...Array.from(p, (v, i) => [setup.axis[i], v * unit - reach]), [setup.edge, -reach]];
    const of = (source) => Array.from(curve(frame, source), (v, i) => [setup.axis[i], v]);
    return [
      { name: "pₜ, where the data is", points: ground, colour: colour("density"), opacity: 0.22, closed: true },
      { name: "exact", points: of("exact"), colour: colour("exact"), width: 4, opacity: 0.75 },
      { name: "learned", points: of("learned"), colour: colour("learned"), width: 1.8 },
    ];
  }

  // --- the plots at rest: what the canvas showed, as Plotly traces ---------------------------------------------------

  // The heat map stands still for the whole run, so it is always a trace; as many axes as change with the run follow it.
  function fillHeat() {
    const order = clock.run.shown.map((_, k) => clock.run.shown.length - 1 - k); // Plotly wants x to grow
    const z = setup.axis.map((_, i) => order.map((k) => densities[k][i]));
    Plotly.restyle(heat.div, { x: [order.map((k) => clock.run.shown[k])], z: [z], zmax: [clock.run.peak] }, [0]);
    const wanted = `${clock.run.run.steps} ${clock.run.peak}`;
    if (fitted === wanted) return; // and a zoom survives
    fitted = wanted;
    Plotly.relayout(heat.div, { "xaxis.range": [clock.run.run.steps, 0] });
    Plotly.relayout(histogram.div, { "yaxis.range": [0, 1.15 * clock.run.peak] });
    fitCurves();
  }

  function fitCurves() {
    const { axis, reach } = CURVES[layer.curve.value];
    Plotly.relayout(curves.div, { "yaxis.range": [-reach(), reach()], "yaxis.title.text": axis });
  }

  function rest() {
    Plotly.addTraces(heat.div, pathTraces(colours()("particles")));
    Plotly.addTraces(histogram.div, histogramLines().map(trace));
    Plotly.addTraces(curves.div, curveLines().map(trace));
  }

  function pathTraces(colour) {
    const ways = Array.from({ length: followed() }, (_, i) => [...wayOf(i), [null, null]]).flat(), who = Array.from({ length: followed() }, (_, i) => i);
    return [
      { x: ways.map(([t]) => t), y: ways.map(([, x]) => x), mode: "lines", line: { color: colour, width: 1.1 }, opacity: 0.6, hoverinfo: "skip" },
      { x: who.map(() => clock.frames[clock.position].index), y: who.map((i) => at(clock.frames[clock.position].paths, i)), customdata: who, mode: "markers",
        marker: { color: colour, size: 5.2 }, hovertemplate: "sample %{customdata}: x = %{y:.2f}<extra></extra>" },
    ];
  }

  function trace({ name, points, colour, width, opacity, closed, dash }) {
    const [r, g, b] = rgb(colour), paint = `rgba(${r},${g},${b},${opacity ?? 1})`;
    return { x: points.map(([x]) => x), y: points.map(([, y]) => y), mode: "lines", name, fill: closed ? "toself" : "none", fillcolor: paint,
      line: { color: paint, width: closed ? 0 : width, dash: dash ? "5px,4px" : "solid" }, hoverinfo: closed ? "skip" : undefined,
      hovertemplate: closed ? undefined : `${name}<br>x = %{x:.2f}: %{y:.3f}<extra></extra>` };
  }

  function arrays() {
    const paths = clock.frames[0].paths.length;
    return { x0_learned: stacked(clock.frames, (frame) => frame.learned, cells), x0_exact: stacked(clock.frames, (frame) => frame.exact, cells), axis: [Float32Array.from(setup.axis), [cells]],
      counts: stacked(clock.frames, (frame) => frame.counts, setup.bins), paths: stacked(clock.frames, (frame) => Array.from(frame.paths, (value) => value / setup.scale), paths),
      density: stacked(clock.frames, (frame) => densities[clock.frames.indexOf(frame)], cells) };
  }

  // --- captions ----------------------------------------------------------------------------------------------------

  function paint(frame) {
    const paths = !clock.run.samples ? " <b>Press Generate</b> for samples of these settings." : followed() ? ` ${ink("particles", "Blue")}: the histories of ${followed()} of ${clock.run.samples.toLocaleString("en")} samples, moved by the ${clock.run.run.denoiser} denoiser.` : "";
    $(".of-heat").innerHTML = `${ink("density", "Violet")}: the exact density p<sub>t</sub>(x) of the noised data.${paths}${startWords()}`;
    $(".of-histogram").innerHTML = `${ink("particles", "Histogram")} of all samples, and the ${ink("density", "true density p<sub>t</sub>")}. Dashed: the end.`;
    const shown = curveFrame();
    $(".of-curves").innerHTML = `${CURVES[layer.curve.value].formula}: ${ink("learned", "learned")} and ${ink("exact", "exact")}. Violet: p<sub>t</sub>, where there is data to learn from.`;
    $(".of-error").innerHTML = shown ? errorWords(shown, frame) : "";
  }

  // What a schedule that ends before pure noise does to the samples, which begin in pure noise all the same.
  function startWords() {
    const left = clock.frames[0].alphaBar, { mean1, mean2, weight1, weight2 } = clock.run.run;
    const mean = (Math.sqrt(left) * (weight1 * mean1 + weight2 * mean2)) / (weight1 + weight2);
    if (left < 1e-3) return "";
    const cost = Math.abs(mean) < 0.05 ? "" : `: p<sub>t</sub> begins with the mean ${signed(mean, 2)}, the samples with 0, and too few end on that side`;
    return ` This schedule never reaches pure noise, ᾱ = ${percent(left)} of the signal is left at t = ${clock.run.run.steps}${cost}.`;
  }

  function errorWords(shown, frame) {
    const [off, size] = errorOf(shown), when = shown === frame ? "" : ` At t = 0 no noise is left to predict: these are the curves of t = ${shown.index}.`;
    const fit = clock.run.trained ? "" : " The network has learned the exercise's mixture, not this one.";
    return `Learned − exact, root mean square over p<sub>t</sub>: ${number(off)}, where the exact curve has ${number(size)}: <b>${percent(off / size)}</b>.${fit}${when}`;
  }

  // --- controls ----------------------------------------------------------------------------------------------------

  function show() {
    player.dataset.figure = layer.figure.value;
  }

  layer.curve.addEventListener("change", () => { if (clock.run && curves) fitCurves(); });
  $(".rate").value = "30";
  show();

  openPlots(async () => {
    const margin = { l: 52, r: 10, t: 10, b: 50 }, x = { title: { text: "x", standoff: 6 }, range: [-VIEW, VIEW], zeroline: false };
    const opacity = [0, 0.01, 0.04, 0.09, 0.16, 0.25, 0.36, 0.49, 0.64, 0.81, 1].map((u) => [u, `rgba(123,92,214,${0.8 * Math.sqrt(u)})`]);
    const still = { type: "heatmap", x: [0, 1], y: setup.axis, z: setup.axis.map(() => [0, 0]), zmin: 0, zmax: 1, zsmooth: "best", showscale: false,
      colorscale: opacity, hovertemplate: "t = %{x}, x = %{y:.2f}: pₜ = %{z:.3f}<extra></extra>" };
    heat = await plot($(".heat"), [still], { xaxis: { title: { text: "step t", standoff: 6 }, range: [100, 0], showgrid: false }, yaxis: { ...x, showgrid: false }, showlegend: false, margin }, paintHeat);
    histogram = await plot($(".histogram"), [], { xaxis: x, yaxis: { title: { text: "density" }, range: [0, 0.5] }, showlegend: false, margin }, paintHistogram);
    curves = await plot($(".curves"), [], { xaxis: x, yaxis: { title: { text: "ε̂" }, range: [-4, 4] }, showlegend: false, margin }, paintCurves);
    if (clock.run) fillHeat();
  });

  listen(receive);
}
