// The plane lesson's player: particles, field and density at the step shown.
import { mountPlayer } from "../../page/components/clock.js";
import { broken, drawing, headed, paintArrows } from "../../page/components/drawing.js";
import { stacked } from "../../page/components/files.js";
import { CONFIG, load, paintLines } from "../../page/components/shared.js";
import { number, percent, rgb } from "../../page/components/words.js";
import { blur, contours } from "./contours.js";

// The fields, each derived from x̂₀: what is drawn at x, and how its caption writes it.
const FIELDS = {
  noise: { of: (x, x0, a, s) => -(x - a * x0) / s, formula: "−ε̂ = −(x − √ᾱ x̂₀) / √(1 − ᾱ)", says: "against the noise that is predicted in x" },
  score: { of: (x, x0, a, s) => -(x - a * x0) / s ** 2, formula: "∇ log p<sub>t</sub>(x) = −(x − √ᾱ x̂₀) / (1 − ᾱ)", says: "where the density of noised data grows fastest" },
  pull: { of: (x, x0) => x0 - x, formula: "x̂₀ − x", says: "to the clean point expected behind x" },
  velocity: { of: (x, x0, a) => (a / 2) * (x0 - a * x), formula: "dx/dλ = ½ √ᾱ (x̂₀ − √ᾱ x)", says: "the way a particle flows without added noise (η = 0), per unit of log-SNR" },
};

function coefficients(frame) {
  return [Math.sqrt(frame.alphaBar), 1 / Math.sqrt(1 + Math.exp(frame.logSnr))];
}

export function mount(gradio) {
  const clock = mountPlayer(gradio, { begin, decode, paint, rest, arrays, views: () => [["Particles, data and arrows", world]] });
  const { setup, $, player, listen, colours, theme, plot, openPlots, layer, receive } = clock;
  const { rows, arrows, spacing, at, lengths, segments, paintPoints, points } = drawing(setup);
  const cells = setup.axis.length, cell = setup.axis[1] - setup.axis[0], edge = setup.axis[cells - 1] + cell / 2;

  let world = null, quality = null;
  let space = null; // the Plotly that draws in space, a bundle of its own, once it is asked for
  let data = new Int16Array(0), followed = new Set();
  let wantedOf = null; // what the arrows were asked to be of, while there is no network to take them from

  // --- messages ----------------------------------------------------------------------------------------------------

  function begin(bytes, stood) {
    if (!clock.run.particles) [clock.playing, clock.hold] = [false, Math.round((stood < 1 ? stood : 0.6) * (clock.run.frames - 1))];
    data = new Int16Array(bytes.buffer);
    followed = new Set([...followed].filter((i) => i < clock.run.particles));
    for (const option of layer.of.options) option.disabled = !clock.run.learned && option.value !== "exact";
    if (!clock.run.learned) [wantedOf, layer.of.value] = [wantedOf ?? layer.of.value, "exact"];
    else if (wantedOf) [wantedOf, layer.of.value] = [null, wantedOf];
    const forward = clock.run.run.direction !== "generate" && clock.run.particles > 0;
    [$(".from").textContent, $(".to").textContent] = forward ? ["data", "noise"] : ["noise", "data"];
    if (quality) Plotly.relayout(quality.div, { "xaxis.range": qualityRange() });
    trail.run = null;
  }

  function decode(header, bytes) {
    const numbers = 2 * clock.run.particles, field = (from) => new Float32Array(bytes.buffer, from, 2 * arrows);
    let at = 2 * numbers;
    const learned = clock.run.learned ? field(at) : null;
    if (learned) at += 8 * arrows;
    return { ...header, x: new Int16Array(bytes.buffer, 0, numbers), learned, exact: field(at),
      density: new Uint8Array(bytes.buffer, at + 8 * arrows, cells * cells) };
  }

  // --- the field ---------------------------------------------------------------------------------------------------

  // The arrows (2 a point) that `source`, "learned" or "exact", gives for the chosen field.
  function fieldOf(frame, source) {
    const [a, s] = coefficients(frame), { of } = FIELDS[layer.arrows.value], x0 = frame[source];
    return x0.map((value, i) => of(setup.fieldAxis[i % 2 ? Math.floor(i / 2 / rows) : (i / 2) % rows], value, a, s));
  }

  // What the arrows layer shows of a frame: its fields by source, the length that fills a cell, and the difference.
  // At t = 0 no noise is left and x̂₀ is x, so there the field of the step before stands.
  function fieldsOf(shownFrame) {
    const least = Math.min(...clock.frames.map(({ index }) => index || Infinity));
    const frame = shownFrame.logSnr === null ? clock.frames.find((other) => other.index === least) : shownFrame;
    if (layer.arrows.value === "none" || !frame) return null;
    const wanted = { learned: ["learned"], exact: ["exact"] }[layer.of.value] ?? ["exact", "learned"];
    const fields = wanted.filter((source) => frame[source]).map((source) => [source, fieldOf(frame, source)]);
    const sorted = lengths(fields[0][1]).sort();
    const shown = { fields, longest: sorted[Math.floor(0.95 * arrows)], index: frame.index };
    if (fields.length === 2) {
      const off = lengths(fields[0][1].map((value, i) => value - fields[1][1][i]));
      shown.difference = off;
      [shown.rms, shown.size] = [off, lengths(fields[0][1])].map((values) => rootMeanSquare(values, frame));
    }
    return shown;
  }

  // Over x distributed as p_t: the field's points weighted by the density there.
  function rootMeanSquare(values, frame) {
    const step = Math.round(spacing / cell), first = Math.round((setup.fieldAxis[0] - setup.axis[0]) / cell);
    let sum = 0, mass = 0;
    values.forEach((value, k) => {
      const p = frame.density[(first + step * Math.floor(k / rows)) * cells + first + step * (k % rows)];
      sum += p * value ** 2;
      mass += p;
    });
    return Math.sqrt(sum / mass);
  }

  // --- densities and their contours ----------------------------------------------------------------------------------

  // The particles' density on the cells: their histogram, blurred by a Gaussian of Scott's width; its highest value is 1.
  function particleDensity(frame) {
    const counts = new Float32Array(cells * cells), n = frame.x.length / 2;
    let squares = 0;
    for (let i = 0; i < n; i++) {
      const [x, y] = [at(frame.x, 2 * i), at(frame.x, 2 * i + 1)], [column, row] = [x, y].map((v) => Math.floor((v + edge) / cell));
      squares += x * x + y * y;
      if (column >= 0 && column < cells && row >= 0 && row < cells) counts[row * cells + column] += 1;
    }
    const width = Math.max((0.5 * Math.sqrt(squares / 2 / n) * n ** (-1 / 6)) / cell, 0.7), reach = Math.ceil(3 * width);
    const kernel = Float32Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * width ** 2)));
    const blurred = blur(blur(counts, kernel, 1, cells), kernel, cells, cells), highest = blurred.reduce((a, b) => Math.max(a, b), 1e-9);
    return blurred.map((value) => value / highest);
  }

  function contourLines(frame) {
    const wanted = layer.contours.value, sets = [];
    if (wanted === "exact" || wanted === "both") sets.push(["density", contours(Float32Array.from(frame.density, (v) => v / 255), setup.axis)]);
    if ((wanted === "particles" || wanted === "both") && clock.run.particles) sets.push(["particles", contours(particleDensity(frame), setup.axis)]);
    return sets;
  }

  // --- the canvas --------------------------------------------------------------------------------------------------

  function paintWorld(over, toX, toY) {
    const frame = clock.frames[clock.position], colour = colours();
    if (layer.trails.value === "all" && clock.run.particles) paintTrails(over, toX, toY, colour("particles"));
    if (clock.resting) return;
    const shown = fieldsOf(frame);
    if (layer.density.checked) paintCells(over, toX, toY, colour("density"), frame.density, 255, cells, edge);
    if (shown?.difference && layer.of.value === "difference") {
      paintCells(over, toX, toY, colour("difference"), shown.difference, shown.difference.reduce((a, b) => Math.max(a, b)), rows, edge);
    }
    if (layer.data.checked) paintPoints(over, toX, toY, data, 1.6, colour("data"), 0.45);
    for (const [name, lines] of contourLines(frame)) paintLines(over, toX, toY, lines, colour(name), 1.3);
    for (const [source, field] of shown?.fields ?? []) paintArrows(over, toX, toY, segments(field, shown.longest), colour(source), source === "exact" && shown.difference ? 2.4 : 1.3);
    if (layer.trails.value === "clicked") {
      for (const i of followed) paintLines(over, toX, toY, wayOf(i), colour("particles"), 1.6);
    }
    if (layer.particles.checked) paintPoints(over, toX, toY, frame.x, clock.run.particles > 2000 ? 1.6 : 2.3, colour("particles"), 0.85);
    if (layer.trails.value === "clicked") paintRings(over, toX, toY, frame);
  }

  const sheet = document.createElement("canvas"); // a pixel a cell, enlarged when it is drawn

  function paintCells(over, toX, toY, colour, values, highest, side, reach) {
    sheet.width = sheet.height = side;
    const pencil = sheet.getContext("2d"), image = new ImageData(side, side), [r, g, b] = rgb(colour);
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        image.data.set([r, g, b, 200 * Math.sqrt(values[row * side + column] / highest)], 4 * ((side - 1 - row) * side + column));
      }
    }
    pencil.putImageData(image, 0, 0);
    over.imageSmoothingEnabled = true;
    over.drawImage(sheet, toX(-reach), toY(reach), toX(reach) - toX(-reach), toY(-reach) - toY(reach));
  }

  function paintRings(over, toX, toY, frame) {
    over.strokeStyle = theme().ink;
    over.lineWidth = 2;
    for (const i of followed) {
      over.beginPath();
      over.arc(toX(at(frame.x, 2 * i)), toY(at(frame.x, 2 * i + 1)), 5, 0, 6.3);
      over.stroke();
    }
  }

  // The way of particle i up to the step shown, as segments.
  function wayOf(i) {
    const point = (k) => [at(clock.frames[k].x, 2 * i), at(clock.frames[k].x, 2 * i + 1)];
    return Array.from({ length: clock.position }, (_, k) => [...point(k), ...point(k + 1)]);
  }

  // The trails of all particles, kept on a canvas of their own: a step forward adds to it, anything else begins it anew.
  const trail = { canvas: document.createElement("canvas"), run: null, view: "", upTo: 0 };

  function paintTrails(over, toX, toY, colour) {
    const { width, height } = over.canvas, view = [width, height, toX(0), toX(1), toY(0), toY(1), colour].join();
    const pencil = trail.canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
    if (trail.run !== clock.run || trail.view !== view || trail.upTo > clock.position) {
      [trail.canvas.width, trail.canvas.height, trail.run, trail.view, trail.upTo] = [width, height, clock.run, view, 0];
      pencil.scale(ratio, ratio);
      pencil.strokeStyle = colour;
      pencil.lineWidth = 0.6;
      pencil.globalAlpha = 0.35;
    }
    for (; trail.upTo < clock.position; trail.upTo++) {
      const [a, b] = [clock.frames[trail.upTo].x, clock.frames[trail.upTo + 1].x];
      pencil.beginPath();
      for (let i = 0; i < a.length; i += 2) { pencil.moveTo(toX(at(a, i)), toY(at(a, i + 1))); pencil.lineTo(toX(at(b, i)), toY(at(b, i + 1))); }
      pencil.stroke();
    }
    over.drawImage(trail.canvas, 0, 0, width / ratio, height / ratio);
  }

  // --- the plots at rest: what the canvas showed, as Plotly traces ---------------------------------------------------

  function rest() {
    Plotly.addTraces(world.div, worldTraces(clock.frames[clock.position], colours()));
    Plotly.addTraces(quality.div, [{ ...distances(clock.frames.length), mode: "lines", line: { color: colours()("particles"), width: 2 },
      hovertemplate: "t = %{x}: %{y:.3f}<extra></extra>" }]);
    if (space) fillSpace();
  }

  function worldTraces(frame, colour) {
    const traces = [], shown = fieldsOf(frame);
    const add = (name, lines, paint, width) => traces.push({ ...broken(lines), mode: "lines", name, hoverinfo: "skip", line: { color: paint, width } });
    if (layer.density.checked) traces.push(cellsTrace(frame.density, setup.axis, colour("density"), frame.peak / 255, "pₜ"));
    if (shown?.difference && layer.of.value === "difference") {
      traces.push(cellsTrace(shown.difference, setup.fieldAxis, colour("difference"), 1, "difference"));
    }
    if (layer.data.checked) {
      traces.push({ ...points(data), mode: "markers", name: "data", marker: { color: colour("data"), size: 3.2, opacity: 0.45 }, hoverinfo: "skip" });
    }
    for (const [name, lines] of contourLines(frame)) add(`contours: ${name}`, lines, colour(name), 1.3);
    for (const [source, field] of shown?.fields ?? []) add(source, segments(field, shown.longest).flatMap(headed), colour(source), source === "exact" && shown.difference ? 2.4 : 1.3);
    if (layer.trails.value === "clicked") for (const i of followed) add(`particle ${i}`, wayOf(i), colour("particles"), 1.6);
    if (layer.particles.checked && clock.run.particles) {
      const marker = { color: colour("particles"), size: clock.run.particles > 2000 ? 3.2 : 4.6, opacity: 0.85 };
      traces.push({ ...points(frame.x), mode: "markers", name: "particles", marker,
        customdata: Array.from({ length: clock.run.particles }, (_, i) => i), hovertemplate: "particle %{customdata}<br>(%{x:.2f}, %{y:.2f})<extra></extra>" });
    }
    return traces;
  }

  function cellsTrace(values, axis, colour, unit, name) {
    const z = axis.map((_, row) => Array.from(values.slice(row * axis.length, (row + 1) * axis.length), (v) => Math.sqrt(v * unit)));
    const [r, g, b] = rgb(colour);
    return { type: "heatmap", x: axis, y: axis, z, zsmooth: "best", name, showscale: false, hoverinfo: "skip",
      colorscale: [[0, `rgba(${r},${g},${b},0)`], [1, `rgba(${r},${g},${b},0.78)`]] };
  }

  function arrays() {
    const field = (source) => stacked(clock.frames, (frame) => frame[source], rows, rows, 2);
    return { x: stacked(clock.frames, (frame) => Array.from(frame.x, (value) => value / setup.scale), clock.run.particles, 2), ...(clock.run.learned && { x0_learned: field("learned") }),
      x0_exact: field("exact"), field_axis: [Float32Array.from(setup.fieldAxis), [rows]] };
  }

  // --- captions ----------------------------------------------------------------------------------------------------

  function paint(frame) {
    const shown = fieldsOf(frame), parts = clock.run.particles ? [] : ["<b>Press Generate</b> for particles with these settings."];
    if (shown) {
      const { formula, says } = FIELDS[layer.arrows.value], names = { learned: clock.run.run.denoiser === "mine" ? "your network" : "the network", exact: "the exact denoiser" };
      const from = shown.fields.map(([source]) => `<i style="color:var(--${source})">${names[source]}</i>`).join(" and ");
      parts.push(`<b>Arrows</b> ${formula}: ${says}, with x̂₀ from ${from}. The longest stand for ${number(shown.longest)} and more; lengths grow as its square root.${shown.index === frame.index ? "" : ` At t = 0 no noise is left to point at: these are of t = ${shown.index}.`}`);
      if (shown.difference) parts.push(`<b>Learned − exact</b>: root mean square ${number(shown.rms)} over x from p<sub>t</sub>, where the exact arrows have ${number(shown.size)}: <b>${percent(shown.rms / shown.size)}</b>.${layer.of.value === "difference" ? ` <i style="color:var(--difference)">Red</i>: how long the difference is at each place, up to ${number(shown.difference.reduce((a, b) => Math.max(a, b)))} here, mostly where no data is.` : ""}`);
    }
    if (layer.density.checked) parts.push(`<b>Density</b> exact p<sub>t</sub>; its highest value is ${number(frame.peak)} per unit of area.`);
    if (layer.contours.value !== "none") parts.push("<b>Contours</b> at 10, 30 and 60 % of the highest density.");
    $(".caption").innerHTML = parts.join(" ");
  }

  // --- quality and space -------------------------------------------------------------------------------------------

  const qualityRange = () => (clock.run && clock.run.run.direction !== "generate" ? [0, clock.run.run.steps] : [clock.run ? clock.run.run.steps : 100, 0]);

  function distances(count) {
    const known = clock.frames.slice(0, count).filter((frame) => frame.distance !== null);
    return { x: known.map((frame) => frame.index), y: known.map((frame) => frame.distance) };
  }

  function paintQuality(over, toX, toY) {
    const [{ x, y }, colour, floor] = [distances(clock.resting ? 0 : clock.position + 1), colours(), Math.log10(clock.frames[0].floor)];
    over.setLineDash([5, 4]);
    paintLines(over, toX, toY, [[0, floor, clock.run.run.steps, floor]], colour("data"), 1.5);
    over.setLineDash([]);
    const points = x.map((t, i) => [t, Math.log10(y[i])]);
    paintLines(over, toX, toY, points.slice(1).map((point, i) => [...points[i], ...point]), colour("particles"), 2);
    const { index, distance } = clock.frames[clock.position];
    if (distance === null) return;
    over.fillStyle = colour("particles");
    over.beginPath();
    over.arc(toX(index), toY(Math.log10(distance)), 4, 0, 6.3);
    over.fill();
    over.fillStyle = theme().ink;
    over.font = `${theme().size}px sans-serif`;
    over.textAlign = "right";
    over.fillText(`${distance.toFixed(3)}, fresh data ${clock.frames[0].floor.toFixed(3)}`, toX(qualityRange()[1]) - 8, 26);
  }

  const IN_SPACE = 80;

  function fillSpace() {
    const { ink } = theme(), colour = colours(), count = Math.min(IN_SPACE, clock.run.particles), [x, y, z] = [[], [], []];
    for (let i = 0; i < count; i++) {
      for (const frame of clock.frames) { x.push(at(frame.x, 2 * i)); y.push(at(frame.x, 2 * i + 1)); z.push(frame.index); }
      [x, y, z].forEach((values) => values.push(null));
    }
    const quarters = [0, 1, 2, 3, 4].map((part) => Math.round(part * clock.run.run.steps / 4)); // WebGL labels none of its own choice
    const still = points(data), axis = { color: ink, gridcolor: "rgba(127,127,127,0.35)", showbackground: false };
    return space.react($(".space"), [
      { type: "scatter3d", mode: "lines", x, y, z, line: { color: colour("particles"), width: 2 }, opacity: 0.6, hoverinfo: "skip" },
      { type: "scatter3d", mode: "markers", ...still, z: still.x.map(() => 0), marker: { color: colour("data"), size: 1.6 }, hoverinfo: "skip" },
    ], { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 11 }, showlegend: false, uirevision: "space",
      scene: { xaxis: { ...axis, title: { text: "x₁" } }, yaxis: { ...axis, title: { text: "x₂" } }, zaxis: { ...axis, title: { text: "step t" }, tickvals: quarters },
        aspectmode: "manual", aspectratio: { x: 1, y: 1, z: 1.8 },
        camera: { eye: { x: 3.1, y: 2.2, z: 1.2 }, center: { x: 0.1, y: -0.1, z: 0 } } } }, CONFIG);
  }

  // --- controls ----------------------------------------------------------------------------------------------------

  function followNearest(event) {
    if (!clock.frames.length || !clock.run.particles || !layer.particles.checked) return;
    const { xaxis, yaxis } = world.div._fullLayout, box = world.div.getBoundingClientRect(), { x } = clock.frames[clock.position];
    const [left, top] = [event.clientX - box.left - xaxis._offset, event.clientY - box.top - yaxis._offset];
    let nearest = -1, least = 14 ** 2; // pixels
    for (let i = 0; i < clock.run.particles; i++) {
      const off = (xaxis.l2p(at(x, 2 * i)) - left) ** 2 + (yaxis.l2p(at(x, 2 * i + 1)) - top) ** 2;
      if (off < least) [nearest, least] = [i, off];
    }
    if (nearest < 0) return;
    if (!followed.delete(nearest)) followed.add(nearest);
    if (layer.trails.value === "none") layer.trails.value = "clicked";
    player.dataset.followed = followed.size;
    clock.show();
  }

  function listenTo(div) {
    let pressed = null;
    div.addEventListener("pointerdown", (event) => { pressed = event; }, true);
    window.addEventListener("pointerup", (event) => { // Plotly covers the page while the button is down
      if (pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) < 5) followNearest(event);
      pressed = null;
    }, true);
  }

  $(".open-space").addEventListener("click", async ({ target }) => {
    const flat = window.Plotly; // whose name both bundles take
    target.disabled = true;
    try {
      await load(setup.plotly3d);
    } catch {
      target.textContent = "The 3D view could not be loaded. Try again";
      target.disabled = false;
      return;
    }
    [space, window.Plotly] = [window.Plotly, flat];
    $(".space").hidden = false;
    target.hidden = true;
    if (clock.frames.length) fillSpace();
  });

  $(".rate").value = "30";

  openPlots(async () => {
    const axis = { range: [-edge, edge], zeroline: false };
    world = await plot($(".world"), [], { xaxis: { ...axis, title: { text: "x₁", standoff: 4 }, constrain: "domain" }, showlegend: false,
      yaxis: { ...axis, title: { text: "x₂", standoff: 4 }, scaleanchor: "x", constrain: "domain" }, margin: { l: 50, r: 10, t: 10, b: 48 } }, paintWorld);
    quality = await plot($(".quality"), [], { xaxis: { title: { text: "step t", standoff: 4 }, range: qualityRange() }, showlegend: false,
      yaxis: { title: { text: "distance", standoff: 4 }, type: "log", range: [-2.2, 0.3], tickvals: [0.01, 0.1, 1] }, margin: { l: 56, r: 10, t: 10, b: 48 } }, paintQuality);
    listenTo(world.div);
  });

  listen(receive);
}
