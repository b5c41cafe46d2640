// The likelihood lesson's screen: an estimate is a message, and the newest stands in the table and the plots.
import { writeAddress } from "../../page/components/address.js";
import { parse, stage } from "../../page/components/shared.js";
import { paintPicture, pictures } from "../../page/components/tiles.js";
import { scientific } from "../../page/components/words.js";

// Value ± one standard error; small ones with two digits that count.
function inWords([value, error]) {
  const text = value !== 0 && Math.abs(value) < 0.001 ? scientific(value.toExponential(1)) : value.toFixed(3);
  return `${text.replace("-", "−")}${error >= 0.0005 ? ` ± ${error.toFixed(3)}` : ""}`;
}

export function mount(gradio) {
  const { element, setup, $, player, listen, notify, foretell, colours, plot, openPlots } = stage(gradio, { refresh: fill });
  let begun = null, newest = null, terms = null, refining = null, way = [];

  function receive(message) {
    const [header, bytes] = parse(message);
    if (header.kind === "start") start(header, bytes);
    else if (!begun || header.job > begun.job) return foretell(header);
    else if (header.job < begun.job) return; // late, of an estimate that has been replaced
    else if (header.kind === "estimate") show(header, bytes);
    else if (header.kind === "waiting") notify([...begun.notes, header.note]);
    else end(header);
  }

  function start(header, bytes) {
    [begun, newest, way] = [header, null, []];
    notify(header.notes);
    writeAddress(header.query);
    showPictures(header, bytes);
    const seen = $(".tested").childElementCount;
    $(".step").textContent = header.pictures === 1 ? "Of one test picture" : header.pictures ? `Averaged over ${header.pictures} test pictures, of which ${seen} are shown` : "Averaged over fresh points";
    $(".speed").textContent = "computing …";
    $(".decoder").textContent = header.pictures ? "the 256 grey levels, given the nearly clean x₁" : "the exact place (a density), given the nearly clean x₁";
    $(".meaning").textContent = header.pictures ? "−log₂ p(x₀) a pixel and colour is at most this; 8 is what the file takes uncompressed" : `−log₂ p(x₀) a coordinate is at most this, by ${header.byExact ? "the exact denoiser" : "the network"}`;
    element.querySelectorAll(".numbers tbody td:nth-child(2)").forEach((cell) => { cell.textContent = "…"; });
    [$(".of-exact"), $(".of-exact-line")].forEach((one) => { one.hidden = Boolean(header.pictures); });
    [player.dataset.state, player.dataset.job, player.dataset.estimates] = ["computing", header.job, 0];
  }

  function showPictures({ shape, pictures: count }, bytes) {
    const box = $(".tested");
    box.hidden = !count;
    box.replaceChildren(...(count ? pictures(bytes, shape) : []).map((picture) => {
      const canvas = document.createElement("canvas");
      paintPicture(canvas, picture, shape);
      return canvas;
    }));
    box.setAttribute("aria-label", count === 1 ? "the test picture" : `${box.children.length} of the ${count} test pictures`);
  }

  function show(header, bytes) {
    const count = begun.ranges.length;
    newest = { ...header, terms: new Float32Array(bytes.buffer, 0, count), errors: new Float32Array(bytes.buffer, 4 * count, count) };
    if (!way.length) notify(begun.notes); // the waiting is over
    way.push({ evaluations: header.evaluations, value: header.parts.total[0], error: header.parts.total[1] });
    for (const [name, part] of Object.entries(header.parts)) $(`.of-${name} td`).textContent = inWords(part);
    if (header.exact) $(".of-exact td").textContent = inWords(header.exact);
    $(".estimated").textContent = header.exact?.[1] ? `, estimated from ${setup.reference.toLocaleString("en")} points` : "";
    $(".speed").textContent = `${header.evaluations.toLocaleString("en")} evaluations in ${header.seconds.toFixed(1)} s`;
    player.dataset.estimates = way.length;
    if (way.length < 4 || way.length % 5 === 0) fill(); // a plot takes longer than an estimate
  }

  function end(header) {
    if (header.problem) notify([...begun.notes, header.problem]);
    player.dataset.state = header.problem ? "failed" : way.length ? "finished" : "stopped";
    fill();
  }

  function fill() {
    if (!refining || !newest) return;
    const colour = colours(), ranges = begun.ranges.slice(1), middle = ranges.map(([first, last]) => Math.sqrt(first * last));
    const at = (values) => ranges.map((_, i) => values[i + 1]);
    Plotly.react(terms.div, [{
      x: middle, y: at(newest.terms), mode: "markers", marker: { color: colour("bound"), size: 6 },
      error_x: { type: "data", symmetric: false, array: ranges.map(([, last], i) => last - middle[i]), arrayminus: ranges.map(([first], i) => middle[i] - first), thickness: 2, width: 0, color: colour("bound") },
      error_y: { type: "data", symmetric: false, array: at(newest.errors).map((error) => 2 * error), arrayminus: ranges.map((_, i) => Math.min(2 * newest.errors[i + 1], 0.9 * newest.terms[i + 1])), thickness: 1, width: 0, color: colour("bound") },
      text: ranges.map(([first, last]) => (first === last ? `t = ${first}` : `t = ${first} … ${last}`)),
      hovertemplate: "%{text}<br>L<sub>t−1</sub> = %{y:.2e} bits per dimension<extra></extra>",
    }], { ...terms.div.layout, xaxis: { ...terms.div.layout.xaxis, autorange: false, range: [0, Math.log10(Math.max(begun.run.steps, 9)) + 0.05] }, yaxis: { ...terms.div.layout.yaxis, autorange: true } });
    const x = way.map((one) => one.evaluations), edge = (sign) => way.map((one) => one.value + 2 * sign * one.error);
    const band = { mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    const traces = [{ x, y: edge(-1), ...band }, { x, y: edge(1), ...band, fill: "tonexty", fillcolor: colour("band") },
      { x, y: way.map((one) => one.value), mode: "lines", name: "bound", line: { color: colour("bound"), width: 2 }, hovertemplate: "%{y:.3f} after %{x:,}<extra></extra>" }];
    if (newest.exact) traces.push({ x: [0, x[x.length - 1]], y: [newest.exact[0], newest.exact[0]], mode: "lines", name: "exact", line: { color: colour("exact"), width: 2, dash: "dash" }, hovertemplate: "exact: %{y:.3f}<extra></extra>" });
    Plotly.react(refining.div, traces, { ...refining.div.layout, xaxis: { ...refining.div.layout.xaxis, autorange: false, range: [0, x[x.length - 1] * 1.02] }, yaxis: { ...refining.div.layout.yaxis, autorange: true } });
  }

  openPlots(async () => {
    const still = { dragmode: false, showlegend: false, margin: { l: 62, r: 12, t: 10, b: 46 } };
    const axis = (title, more = {}) => ({ title: { text: title, standoff: 6 }, fixedrange: true, zeroline: false, ...more });
    const powers = { type: "log", dtick: 1, exponentformat: "power" };
    terms = await plot($(".terms"), [], { ...still, xaxis: axis("step t", { ...powers, range: [0, 3] }), yaxis: axis("L<sub>t−1</sub> in bits per dimension", { ...powers, range: [-6, 0] }) }, () => {});
    refining = await plot($(".refining"), [], { ...still, xaxis: axis("evaluations of x̂<sub>0</sub>", { range: [0, 2000] }), yaxis: axis("bits per dimension", { range: [0, 8] }) }, () => {});
  });

  listen(receive);
}
