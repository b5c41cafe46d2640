// The training's player: a frame is the network after some batch, with what it makes, its field and its losses.
import { mountPlayer } from "../../page/components/clock.js";
import { broken, drawing, headed, paintArrows } from "../../page/components/drawing.js";
import { stacked } from "../../page/components/files.js";
import { save } from "../../page/components/save.js";
import { paintLines, parse } from "../../page/components/shared.js";

/** @type {[string, (frame: any) => number, string][]} */
const CURVES = [["particles", (frame) => frame.loss, "batches"], ["learned", (frame) => frame.heldOut, "held out"]];

export function mount(gradio) {
  const clock = mountPlayer(gradio, { begin, decode, describe, paint, rest, arrays, views: () => [["Made by the network", world], ["Loss", loss]] });
  const { setup, $, player, listen, notify, colours, plot, openPlots, layer, receive, goOn } = clock;
  const { rows, arrows, spacing, lengths, segments, paintPoints, points } = drawing(setup);
  const edge = setup.fieldAxis[rows - 1] + spacing / 2;

  let world = null, loss = null;
  let data = new Int16Array(0), exact = null;

  // --- messages ----------------------------------------------------------------------------------------------------

  function take(message) {
    const [header, bytes] = parse(message);
    if (header.kind === "file") save(header.name, bytes);
    else if (header.kind === "start" && header.goesOn && sameRun(header)) goOn(header);
    else if (header.kind === "note" && header.job === clock.run?.job) notify([...clock.run.notes, header.note]);
    else receive(message);
  }

  const sameRun = (header) => clock.run && JSON.stringify(clock.run.query) === JSON.stringify(header.query);

  function begin(bytes) {
    data = new Int16Array(bytes.buffer, 0, 2 * clock.run.points);
    exact = new Float32Array(bytes.buffer, 4 * clock.run.points);
    [$(".from").textContent, $(".to").textContent] = ["first batch", "last"];
    [$(".step").textContent, $(".level").textContent] = ["The training begins.", ""];
    const { data: name, points } = clock.run.run;
    $(".use").href = `plane?${new URLSearchParams({ data: name, points, denoiser: "mine" })}`;
    delete player.dataset.batches;
  }

  function decode(header, bytes) {
    if (!clock.frames.length && loss) scaleLoss(header);
    notify(clock.run.notes); // the waiting is over, also of a training that goes on
    player.dataset.batches = header.index;
    $(".use").hidden = !header.index;
    const field = 8 * arrows;
    return { ...header, fields: [0, 1, 2].map((k) => new Float32Array(bytes.buffer, k * field, 2 * arrows)),
      x: new Int16Array(bytes.buffer, 3 * field) };
  }

  function describe(frame) {
    const { index, heldOut, distance, floor, left, x } = frame;
    const made = points(x), outside = made.x.filter((across, i) => Math.max(Math.abs(across), Math.abs(made.y[i])) > edge).length;
    $(".budget").textContent = `${Math.round(left)} s of your ${setup.budget} s of computation are left`;
    return [`batch ${index.toLocaleString("en")} of ${clock.run.run.steps.toLocaleString("en")}`,
      `held-out loss ${heldOut.toFixed(3)} · distance to data ${distance.toFixed(3)} (fresh data ${floor.toFixed(3)})${outside ? ` · ${outside} of ${made.x.length} points outside the picture` : ""}`];
  }

  // --- drawing -------------------------------------------------------------------------------------------------------

  // −ε̂ at the chosen level, from x̂₀: two numbers an arrow.
  function noiseField(x0) {
    const logSnr = setup.levels[layer.level.value], a = Math.sqrt(1 / (1 + Math.exp(-logSnr))), s = Math.sqrt(1 / (1 + Math.exp(logSnr)));
    return x0.map((value, i) => -(setup.fieldAxis[i % 2 ? Math.floor(i / 2 / rows) : (i / 2) % rows] - a * value) / s);
  }

  // The arrows that are switched on, the exact ones below: [name, lines, width] each.
  /** @returns {[string, number[][], number][]} */
  function arrowSets(frame) {
    const truth = noiseField(exact.subarray(2 * arrows * layer.level.value).subarray(0, 2 * arrows));
    const longest = lengths(truth).sort()[Math.floor(0.95 * arrows)];
    const fields = { exact: truth, learned: noiseField(frame.fields[layer.level.value]) };
    return ["exact", "learned"].filter((name) => layer[name].checked).map((name) => [name, segments(fields[name], longest), name === "exact" ? 2.4 : 1.3]);
  }

  function paintWorld(over, toX, toY) {
    if (clock.resting) return;
    const frame = clock.frames[clock.position], colour = colours();
    if (layer.data.checked) paintPoints(over, toX, toY, data, 1.6, colour("data"), 0.45);
    for (const [name, lines, width] of arrowSets(frame)) paintArrows(over, toX, toY, lines, colour(name), width);
    if (layer.particles.checked) paintPoints(over, toX, toY, frame.x, 2.3, colour("particles"), 0.85);
  }

  function paintLoss(over, toX, toY) {
    const colour = colours(), shown = clock.frames.slice(0, clock.position + 1);
    over.setLineDash([5, 4]);
    paintLines(over, toX, toY, [[0, clock.run.least, clock.run.run.steps, clock.run.least]], colour("data"), 1.5);
    over.setLineDash([]);
    if (clock.resting) return;
    for (const [name, of] of CURVES) {
      const points = shown.filter((frame) => of(frame) !== null).map((frame) => [frame.index, of(frame)]);
      if (points.length === 1) paintPoints(over, toX, toY, points[0].map((value) => value * setup.scale), 4, colour(name), 1);
      paintLines(over, toX, toY, points.slice(1).map((point, i) => [...points[i], ...point]), colour(name), 2);
    }
  }

  function scaleLoss(frame) {
    Plotly.relayout(loss.div, { "xaxis.range": [0, clock.run.run.steps], "yaxis.range": [0, 1.1 * Math.max(frame.heldOut, frame.loss ?? 0)] });
  }

  function paint() {
    const logSnr = setup.levels[layer.level.value];
    $(".caption").innerHTML = `<b>Arrows</b> −ε̂ = −(x − √ᾱ x̂₀) / √(1 − ᾱ) where λ = ${logSnr}: against the noise that <i style="color:var(--learned)">the network</i> or <i style="color:var(--exact)">the exact denoiser</i> predicts in x. <b>Blue points</b>: what the network makes so far, from the same noise each time.`;
  }

  // --- the plots at rest: what the canvas showed, as Plotly traces ---------------------------------------------------

  function rest() {
    const colour = colours(), frame = clock.frames[clock.position];
    const marks = (values, name, size, opacity) => ({ ...points(values), mode: "markers", name, marker: { color: colour(name), size, opacity }, hoverinfo: name === "data" ? "skip" : "x+y" });
    /** @type {object[]} */
    const traces = layer.data.checked ? [marks(data, "data", 3.2, 0.45)] : [];
    for (const [name, lines, width] of arrowSets(frame)) traces.push({ ...broken(lines.flatMap(headed)), mode: "lines", name, hoverinfo: "skip", line: { color: colour(name), width } });
    if (layer.particles.checked) traces.push(marks(frame.x, "particles", 4.6, 0.85));
    Plotly.addTraces(world.div, traces);
    Plotly.addTraces(loss.div, CURVES.map(([name, of, label]) => ({ x: clock.frames.map(({ index }) => index), y: clock.frames.map(of),
      mode: clock.frames.length > 1 ? "lines" : "markers", name: label, marker: { color: colour(name), size: 8 }, line: { color: colour(name), width: 2 }, hovertemplate: `batch %{x}: %{y:.3f}<extra>${label}</extra>` })));
  }

  function arrays() {
    const [{ x }] = clock.frames, field = (k) => stacked(clock.frames, (frame) => frame.fields[k], rows, rows, 2);
    return { x: stacked(clock.frames, (frame) => Array.from(frame.x, (value) => value / setup.scale), x.length / 2, 2),
      ...Object.fromEntries(setup.levels.map((_, k) => [`x0_at_level_${k}`, field(k)])), log_snr_of_levels: [Float32Array.from(setup.levels), [setup.levels.length]] };
  }

  // --- controls ----------------------------------------------------------------------------------------------------

  $(".rate").value = "10";

  // The visitor's network is kept on the server under a name that only this browser knows; it lasts as long as the browser runs.
  if (!document.cookie.split("; ").some((cookie) => cookie.startsWith(`${setup.cookie}=`))) {
    const name = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const framed = location.protocol === "https:" ? "SameSite=None; Secure; Partitioned" : "SameSite=Lax";
    document.cookie = `${setup.cookie}=${name}; path=/; ${framed}`;
  }

  openPlots(async () => {
    const axis = { range: [-edge, edge], zeroline: false };
    world = await plot($(".world"), [], { xaxis: { ...axis, title: { text: "x₁", standoff: 4 }, constrain: "domain" }, showlegend: false,
      yaxis: { ...axis, title: { text: "x₂", standoff: 4 }, scaleanchor: "x", constrain: "domain" }, margin: { l: 50, r: 10, t: 10, b: 48 } }, paintWorld);
    loss = await plot($(".loss"), [], { xaxis: { title: { text: "batch", standoff: 4 }, range: [0, 2000] }, showlegend: false,
      yaxis: { title: { text: "loss", standoff: 4 }, range: [0, 1.1] }, margin: { l: 56, r: 10, t: 10, b: 48 } }, paintLoss);
    if (clock.frames.length) scaleLoss(clock.frames[0]);
  });

  listen(take);
}
