// The Digits lesson's player: pictures, and their paths.
import { mountPlayer } from "../../page/components/clock.js";
import { stacked } from "../../page/components/files.js";
import { paintLines } from "../../page/components/shared.js";
import { mountAlgorithm } from "./algorithm.js";
import { paintPictures } from "./grid.js";

const MARKS = ["#3B8BEB", "#E69F00", "#CC79A7"];

export function mount(gradio) {
  const clock = mountPlayer(gradio, { begin, decode, paint, rest, arrays, views: () => [["xₜ: the noisy pictures", $("canvas.x")], ["x̂₀: the clean pictures predicted from them", $("canvas.x0")]] });
  const { setup, $, listen, theme, plot, openPlots, receive } = clock;
  const { shape } = setup, [channels, height, width] = shape, size = channels * height * width;
  const algorithm = mountAlgorithm(clock);

  let planePlot = null, pixelPlot = null;
  let chosen = [[Math.floor(height / 2), Math.floor(width / 2)], [Math.floor(height / 4), Math.floor(width / 2)], [Math.floor(height / 8), Math.floor(width / 8)]]
    .map(([row, column], i) => ({ sample: 0, row, column, mark: MARKS[i] })); // the oldest first

  function begin() {
    chosen = chosen.map((pixel) => ({ ...pixel, sample: Math.min(pixel.sample, clock.run.labels.length - 1) }));
    const pictures = clock.run.labels.map((label) => clock.run.names[label]).join(", ");
    $("canvas.x").setAttribute("aria-label", `x_t, the noisy pictures, asked for: ${pictures}`);
    $("canvas.x0").setAttribute("aria-label", `predicted x_0, the clean pictures, asked for: ${pictures}`);
    if (pixelPlot && pixelPlot.div.layout.xaxis.range[0] !== clock.run.run.steps) Plotly.relayout(pixelPlot.div, { "xaxis.range": [clock.run.run.steps, 0] });
    algorithm.begin();
  }

  // The frame: its header, its points in the plane, and x, x0, noise (the predicted one) and added as functions of an index
  // into all pictures, since numbers as they travel take a quarter of the memory.
  function decode(header, bytes) {
    const count = clock.run.labels.length, pictures = count * size, { lines, scales } = header;
    const [x, predicted, added] = scales.map((scale, k) => {
      const numbers = new Int16Array(bytes.buffer, 2 * k * pictures, pictures);
      return (i) => numbers[i] * scale;
    });
    const saysNoise = header.predicts === "noise", points = 2 * scales.length * pictures;
    return {
      ...header, x, added,
      x0: saysNoise ? (i) => (x(i) - lines.sigma * predicted(i)) / lines.root : predicted,
      noise: saysNoise ? predicted : (i) => (x(i) - lines.root * predicted(i)) / lines.sigma,
      path: new Float32Array(bytes.buffer, points, 2 * count),
      path0: new Float32Array(bytes.buffer, points + 8 * count, 2 * count),
    };
  }

  // --- pictures ----------------------------------------------------------------------------------------------------

  function paint(frame) {
    paintPictures($("canvas.x"), frame.x, clock.run.labels.length, shape, clock.run.columns);
    paintPictures($("canvas.x0"), frame.x0, clock.run.labels.length, shape, clock.run.columns);
    placeRings();
    if ($(".algorithm").open) algorithm.paint(frame);
  }

  function arrays() {
    const count = clock.run.labels.length, shape = [count, channels, height, width];
    const all = (name) => stacked(clock.frames, (frame) => Float32Array.from({ length: count * size }, (_, i) => frame[name](i)), ...shape);
    return { x: all("x"), x0: all("x0"), labels: [Int32Array.from(clock.run.labels), [count]] };
  }

  function choosePixel(event) {
    if (!clock.frames.length) return;
    const canvas = event.currentTarget, box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
    const pixel = {
      sample: Math.floor(y / (height + 1)) * clock.run.columns + Math.floor(x / (width + 1)),
      row: y % (height + 1), column: x % (width + 1),
    };
    if (pixel.sample >= clock.run.labels.length || pixel.row >= height || pixel.column >= width) return;
    chosen = [...chosen.slice(1), { ...pixel, mark: chosen[0].mark }];
    algorithm.follow(pixel);
    placeRings();
    if (clock.playing) pixelPlot?.draw(); else clock.rest();
  }

  function placeRings() {
    for (const name of ["x", "x0"]) {
      const canvas = $(`canvas.${name}`);
      const rings = [...canvas.parentElement.querySelectorAll(".ring")];
      chosen.forEach((pixel, i) => {
        const ring = rings[i] || canvas.parentElement.appendChild(Object.assign(document.createElement("i"), { className: "ring" }));
        const left = (pixel.sample % clock.run.columns) * (width + 1) + pixel.column + 0.5;
        const top = Math.floor(pixel.sample / clock.run.columns) * (height + 1) + pixel.row + 0.5;
        ring.style.left = `${canvas.offsetLeft + (left / canvas.width) * canvas.clientWidth}px`;
        ring.style.top = `${canvas.offsetTop + (top / canvas.height) * canvas.clientHeight}px`;
        ring.style.borderColor = pixel.mark;
      });
    }
  }

  // --- plots -------------------------------------------------------------------------------------------------------

  function way() { return $(".predicted").checked ? "path0" : "path"; }

  function colour(i) { return clock.run.labels[i] < setup.colours.length ? setup.colours[clock.run.labels[i]] : theme().ink; }

  function paintPlane(over, toX, toY) {
    const key = way();
    const pictures = $(key === "path" ? "canvas.x" : "canvas.x0");
    const side = clock.run.labels.length > 10 ? 20 : 28;
    over.imageSmoothingEnabled = false;
    clock.run.labels.forEach((_, i) => {
      over.strokeStyle = over.fillStyle = colour(i);
      over.lineWidth = 2;
      over.beginPath();
      for (let k = 0; k <= clock.position; k++) over.lineTo(toX(clock.frames[k][key][2 * i]), toY(clock.frames[k][key][2 * i + 1]));
      over.stroke();
      const left = (i % clock.run.columns) * (width + 1), top = Math.floor(i / clock.run.columns) * (height + 1);
      const x = toX(clock.frames[clock.position][key][2 * i]) - side / 2, y = toY(clock.frames[clock.position][key][2 * i + 1]) - side / 2;
      over.globalAlpha = key === "path" ? Math.max(0.35, clock.frames[clock.position].alphaBar) : 1; // noise would hide the paths
      over.fillRect(x - 2, y - 2, side + 4, side + 4);
      over.drawImage(pictures, left, top, width, height, x, y, side, side);
      over.globalAlpha = 1;
    });
  }

  function pixelValue(frame, key, pixel) {
    const first = pixel.sample * size + pixel.row * width + pixel.column;
    return Array.from({ length: channels }, (_, c) => frame[key](first + c * height * width)).reduce((a, b) => a + b) / channels;
  }

  function paintPixels(over, toX, toY) {
    chosen.forEach((pixel) => {
      over.strokeStyle = pixel.mark;
      for (const [key, dash] of [["x", []], ["x0", [2, 3]]]) {
        over.setLineDash(dash);
        over.lineWidth = 2;
        over.beginPath();
        for (let k = 0; k <= clock.position; k++) over.lineTo(toX(clock.frames[k].index), toY(pixelValue(clock.frames[k], key, pixel)));
        over.stroke();
      }
    });
    over.setLineDash([]);
    const { index } = clock.frames[clock.position];
    paintLines(over, toX, toY, [[index, -100, index, 100]], theme().ink, 1);
  }

  // At rest the run stands in the plots as Plotly traces too: values on hover, zoom, save as PNG.
  function rest() {
    const key = way(), steps = clock.frames.map((frame) => frame.index);
    Plotly.addTraces(planePlot.div, clock.run.labels.map((label, i) => ({
      x: clock.frames.map((frame) => frame[key][2 * i]), y: clock.frames.map((frame) => frame[key][2 * i + 1]), text: steps.map(String),
      mode: "lines+markers", line: { color: colour(i), width: 1 }, marker: { size: 3, color: colour(i) }, opacity: 0.45,
      name: `picture ${i + 1} (${clock.run.names[label]})`, showlegend: false,
      hovertemplate: "t = %{text}<br>%{x:.2f}, %{y:.2f}",
    })));
    Plotly.addTraces(pixelPlot.div, chosen.flatMap((pixel) => ["x", "x0"].map((name) => ({
      x: steps, y: clock.frames.map((frame) => pixelValue(frame, name, pixel)), mode: "lines", opacity: 0.9,
      line: { color: pixel.mark, width: 1.5, dash: name === "x" ? "solid" : "dot" },
      name: `picture ${pixel.sample + 1}, row ${pixel.row}, column ${pixel.column}: ${name === "x" ? "x<sub>t</sub>" : "x̂<sub>0</sub>"}`,
      showlegend: name === "x", hovertemplate: "t = %{x}: %{y:.2f}",
    }))));
  }

  openPlots(async () => {
    planePlot = await plot($(".plane"), setup.plane.data, { ...setup.plane.layout, template: {} }, paintPlane);
    pixelPlot = await plot($(".pixels"), [], {
      xaxis: { title: { text: "step t: noise at T, data at 0" }, range: [clock.run ? clock.run.run.steps : 50, 0] },
      yaxis: { title: { text: channels === 1 ? "value of the pixel" : "mean of its three colours" }, range: [-3.5, 3.5] },
      legend: { orientation: "h", y: 1, x: 0, bgcolor: "rgba(127,127,127,0.15)" },
    }, paintPixels);
  });

  // --- controls ----------------------------------------------------------------------------------------------------

  $(".predicted").addEventListener("change", () => { if (clock.playing) planePlot?.draw(); else clock.rest(); });
  $("canvas.x").addEventListener("click", choosePixel);
  $("canvas.x0").addEventListener("click", choosePixel);

  listen(receive);
}
