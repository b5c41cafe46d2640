// The Digits lesson's player: pictures, and their paths; what every lesson shares comes before it.
const [channels, height, width] = setup.shape;
const size = channels * height * width;
const MARKS = ["#3B8BEB", "#E69F00", "#CC79A7"];

let planePlot = null, pixelPlot = null;
let chosen = [[Math.floor(height / 2), Math.floor(width / 2)], [Math.floor(height / 4), Math.floor(width / 2)], [Math.floor(height / 8), Math.floor(width / 8)]]
  .map(([row, column], i) => ({ sample: 0, row, column, mark: MARKS[i] })); // the oldest first

function begin() {
  chosen = chosen.map((pixel) => ({ ...pixel, sample: Math.min(pixel.sample, run.labels.length - 1) }));
  const pictures = run.labels.map((label) => run.names[label]).join(", ");
  $("canvas.x").setAttribute("aria-label", `x_t, the noisy pictures, asked for: ${pictures}`);
  $("canvas.x0").setAttribute("aria-label", `predicted x_0, the clean pictures, asked for: ${pictures}`);
  if (pixelPlot && pixelPlot.div.layout.xaxis.range[0] !== run.run.steps) Plotly.relayout(pixelPlot.div, { "xaxis.range": [run.run.steps, 0] });
  beginAlgorithm();
}

// The frame: its header, its points in the plane, and x, x0, noise (the predicted one) and added as functions of an index
// into all pictures, since numbers as they travel take a quarter of the memory.
function decode(header, bytes) {
  const count = run.labels.length, pictures = count * size, { lines, scales } = header;
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

const describe = wordsOfLevel;

// --- pictures ----------------------------------------------------------------------------------------------------

function paint(frame) {
  paintPictures($("canvas.x"), frame.x, run.labels.length);
  paintPictures($("canvas.x0"), frame.x0, run.labels.length);
  placeRings();
  if ($(".algorithm").open) paintAlgorithm(frame);
}

// Draws ``count`` pictures, whose values are a function of an index into them: black at −range, white at range.
function paintPictures(canvas, value, count, range = 1) {
  const across = Math.min(run.columns, count), down = Math.ceil(count / across);
  const [w, h] = [across * (width + 1) - 1, down * (height + 1) - 1];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const image = new ImageData(w, h);
  for (let i = 0; i < count; i++) {
    const top = Math.floor(i / across) * (height + 1), left = (i % across) * (width + 1);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const to = 4 * ((top + row) * w + left + column), from = i * size + row * width + column;
        for (let c = 0; c < 3; c++) {
          image.data[to + c] = (value(from + (channels === 3 ? c * height * width : 0)) / range + 1) * 127.5;
        }
        image.data[to + 3] = 255;
      }
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const views = () => [["xₜ: the noisy pictures", $("canvas.x")], ["x̂₀: the clean pictures predicted from them", $("canvas.x0")]];

function arrays() {
  const count = run.labels.length, shape = [count, channels, height, width];
  const all = (name) => stacked((frame) => Float32Array.from({ length: count * size }, (_, i) => frame[name](i)), ...shape);
  return { x: all("x"), x0: all("x0"), labels: [Int32Array.from(run.labels), [count]] };
}

function choosePixel(event) {
  if (!frames.length) return;
  const canvas = event.currentTarget, box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
  const pixel = {
    sample: Math.floor(y / (height + 1)) * run.columns + Math.floor(x / (width + 1)),
    row: y % (height + 1), column: x % (width + 1),
  };
  if (pixel.sample >= run.labels.length || pixel.row >= height || pixel.column >= width) return;
  chosen = [...chosen.slice(1), { ...pixel, mark: chosen[0].mark }];
  follow(pixel);
  placeRings();
  if (playing) pixelPlot?.draw(); else rest();
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
      ring.style.borderColor = pixel.mark;
    });
  }
}

// --- plots -------------------------------------------------------------------------------------------------------

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
    over.globalAlpha = key === "path" ? Math.max(0.35, frames[position].alphaBar) : 1; // noise would hide the paths
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

const unrest = clearSoon;

// At rest the run stands in the plots as Plotly traces too: values on hover, zoom, save as PNG.
function rest() {
  if (!pixelPlot || !frames.length) return;
  clearTraces();
  const key = way(), steps = frames.map((frame) => frame.index);
  Plotly.addTraces(planePlot.div, run.labels.map((label, i) => ({
    x: frames.map((frame) => frame[key][2 * i]), y: frames.map((frame) => frame[key][2 * i + 1]), text: steps.map(String),
    mode: "lines+markers", line: { color: colour(i), width: 1 }, marker: { size: 3, color: colour(i) }, opacity: 0.45,
    name: `picture ${i + 1} (${run.names[label]})`, showlegend: false,
    hovertemplate: "t = %{text}<br>%{x:.2f}, %{y:.2f}",
  })));
  Plotly.addTraces(pixelPlot.div, chosen.flatMap((pixel) => ["x", "x0"].map((name) => ({
    x: steps, y: frames.map((frame) => pixelValue(frame, name, pixel)), mode: "lines", opacity: 0.9,
    line: { color: pixel.mark, width: 1.5, dash: name === "x" ? "solid" : "dot" },
    name: `picture ${pixel.sample + 1}, row ${pixel.row}, column ${pixel.column}: ${name === "x" ? "x<sub>t</sub>" : "x̂<sub>0</sub>"}`,
    showlegend: name === "x", hovertemplate: "t = %{x}: %{y:.2f}",
  }))));
}

openPlots(async () => {
  planePlot = await plot($(".plane"), setup.plane.data, { ...setup.plane.layout, template: {} }, paintPlane);
  pixelPlot = await plot($(".pixels"), [], {
    xaxis: { title: { text: "step t: noise at T, data at 0" }, range: [run ? run.run.steps : 50, 0] },
    yaxis: { title: { text: channels === 1 ? "value of the pixel" : "mean of its three colours" }, range: [-3.5, 3.5] },
    legend: { orientation: "h", y: 1, x: 0, bgcolor: "rgba(127,127,127,0.15)" },
  }, paintPixels);
});

// --- controls ----------------------------------------------------------------------------------------------------

$(".predicted").addEventListener("change", () => { if (playing) planePlot?.draw(); else rest(); });
$("canvas.x").addEventListener("click", choosePixel);
$("canvas.x0").addEventListener("click", choosePixel);

hear(receive);
