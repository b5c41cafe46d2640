// Algorithm 2, line by line, for one picture of the run: part of the player of pictures.
import { scientific } from "../../page/components/words.js";
import { paintPictures } from "./grid.js";

const RANGES = { noise: 3, z: 3, correction: 0.3 }; // of the pictures that are not drawn from −1 to 1
const OF_A_STEP = ["level", "predict", "mean", "draw", "next"];
const WHOSE = {
  ddpm: "This run takes DDPM's lines.",
  beta: "This run takes DDPM's lines, with βₜ for the variance of the noise.",
  ddim: "This run takes DDIM's lines: no noise is drawn on the way.",
  between: "This run lies between the two: with its η it draws some noise, and less than DDPM.",
  "dpm-solver++": "This run's sampler is another: DPM-Solver++ (2M). It takes DDIM's lines, with x̂₀ extrapolated to the middle of the step from this prediction and the one before: c is what that changes. In its first and its last step, nothing.",
  heun: "This run's sampler is another: Heun's. It takes DDIM's lines, asks the network again at the xₜ₋₁ that they lead to, and goes back to take the step with the mean of both ε̂: c is what that changes. In its last step, nothing.",
};

function wayOf({ sampler, eta }) {
  if (sampler === "few-steps") return "ddpm"; // by a student
  if (sampler === "ddpm-beta") return "beta";
  if (sampler !== "ddim") return "second";
  return eta === 0 ? "ddim" : eta === 1 ? "ddpm" : "between";
}

const digits = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e-3 ? String(Number(value.toPrecision(4))) : scientific(value.toExponential(2))).replace(/^-/, "−");

/** @param {Clock} clock */
export function mountAlgorithm(clock) {
  const { setup, $, refresh, moveTo } = clock;
  const section = $(".algorithm"), lineItems = [...section.querySelectorAll(".listing > li")];
  const [channels, height, width] = setup.shape, size = channels * height * width;
  let spot = { sample: 0, row: Math.floor(height / 2), column: Math.floor(width / 2) }; // the pixel followed
  let walk = null; // { position, line }: the line that is marked, as long as the player stands at that position

  function begin() {
    const way = wayOf(clock.run.run), taken = { beta: "ddpm" }[way] ?? way;
    section.querySelectorAll("[data-for]").forEach((part) => { part.hidden = !part.dataset.for.split(" ").includes(way); });
    section.querySelectorAll("[data-way]").forEach((part) => {
      const own = part.dataset.way === taken || (way === "second" && part.dataset.way === "ddim" && part.closest("[data-line=mean]"));
      part.classList.toggle("taken", Boolean(own));
    });
    $(".whose").hidden = false;
    $(".whose").textContent = WHOSE[way] ?? WHOSE[clock.run.run.sampler];
    spot.sample = Math.min(spot.sample, clock.run.labels.length - 1);
    const options = clock.run.labels.map((label, i) => new Option(`${i + 1} (${clock.run.names[label]})`, i));
    $(".followed").replaceChildren(...options);
    $(".followed").value = spot.sample;
    section.querySelectorAll("select, button").forEach((control) => { control.disabled = false; });
    walk = null;
  }

  // The pixel that is followed, and with it the picture.
  function follow(pixel) {
    spot = pixel;
    $(".followed").value = spot.sample;
    refresh();
  }

  // --- what the lines make -------------------------------------------------------------------------------------------

  // The pictures by name, each a function of an index into the picture that is followed.
  function picturesOf(frame) {
    const { lines } = frame, at = spot.sample * size, own = (values) => (i) => values(at + i);
    const x = own(frame.x), first = own(clock.frames[0].x);
    if (!lines) return { first, last: x };
    const x0 = own(frame.x0), noise = own(frame.noise), mean = (i) => lines.on_x * x(i) + lines.on_x0 * x0(i);
    if (!frame.added) return { first, x, noise, x0, mean, next: mean };
    const added = own(frame.added), draws = wayOf(clock.run.run) !== "second";
    const term = draws ? (i) => lines.own_std * added(i) : added;
    return { first, x, noise, x0, mean, ...(draws ? { z: added, term } : { correction: added }), next: (i) => mean(i) + term(i) };
  }

  function paint(frame) {
    if (walk && (clock.playing || walk.position !== clock.position)) walk = null;
    const made = picturesOf(frame), at = spot.row * width + spot.column;
    const marked = walk ? walk.line : frame.lines ? null : "end";
    const reached = lineItems.findIndex((item) => item.dataset.line === marked);
    lineItems.forEach((item, i) => {
      const now = item.dataset.line === marked;
      const isOfNow = frame.lines ? item.dataset.line !== "end" : ["begin", "end"].includes(item.dataset.line);
      item.classList.toggle("now", now);
      item.classList.toggle("idle", !isOfNow || (walk !== null && i > reached));
      if (now) item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
      item.querySelectorAll("figure").forEach((figure) => paintFigure(figure, item.classList.contains("idle") ? null : made[figure.dataset.picture], at));
    });
    const values = { ...frame.lines, t: frame.index, log_snr: frame.logSnr, eta: clock.run.run.eta };
    section.querySelectorAll("[data-value]").forEach((place) => {
      const value = frame.lines ? values[place.dataset.value] : null;
      place.textContent = value === null ? "…" : digits(value);
    });
    $(".where").textContent = frame.lines ? `The step from t = ${frame.index} to t = ${frame.index - 1}` : "t = 0: the run is over. Step back, or walk, to look into a step.";
    $(".line-on").textContent = walk ? "next line ›" : "walk through the lines ›";
  }

  // Draws one picture, or nothing, into its figure, with the value of the pixel at the index ``at``.
  function paintFigure(figure, value, at) {
    const canvas = figure.querySelector("canvas") ?? furnish(figure);
    figure.classList.toggle("empty", !value);
    if (value) paintPictures(canvas, value, 1, setup.shape, 1, RANGES[figure.dataset.picture]);
    const numbers = value ? Array.from({ length: channels }, (_, c) => value(at + c * width * height)) : [];
    figure.querySelector(".pixel").textContent = numbers.map((one) => one.toFixed(channels === 1 ? 4 : 2).replace("-", "−")).join(" ");
    const { style } = figure.querySelector(".spot");
    [style.left, style.top] = [`${(100 * (spot.column + 0.5)) / width}%`, `${(100 * (spot.row + 0.5)) / height}%`];
  }

  function furnish(figure) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", figure.textContent);
    canvas.addEventListener("click", pickPixel);
    const holder = Object.assign(document.createElement("div"), { className: "frame" });
    holder.append(canvas, Object.assign(document.createElement("span"), { className: "spot" }));
    figure.append(holder, Object.assign(document.createElement("span"), { className: "pixel" }));
    return canvas;
  }

  function pickPixel(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * height);
    const column = Math.floor(((event.clientX - box.left) / box.width) * width);
    follow({ ...spot, row: Math.min(row, height - 1), column: Math.min(column, width - 1) });
  }

  // --- walking through the lines ---------------------------------------------------------------------------------------

  function linesAt(place) {
    const frame = clock.frames[place];
    if (!frame.lines) return ["end"];
    return frame.index === clock.run.run.steps ? ["begin", ...OF_A_STEP] : OF_A_STEP;
  }

  // Marks the next line (by = 1) or the one before (by = −1), in the next or the last step if need be.
  function step(by) {
    if (!clock.frames.length) return;
    const here = linesAt(clock.position), at = walk && walk.position === clock.position ? here.indexOf(walk.line) + by : clock.frames[clock.position].lines ? 0 : by > 0 ? 1 : -1;
    let place = clock.position, line = here[at];
    if (line === undefined) {
      place = at < 0 ? Math.max(clock.position - 1, 0) : clock.position + 1 < clock.frames.length ? clock.position + 1 : clock.ended ? 0 : clock.position;
      line = linesAt(place).at(at < 0 && clock.position > 0 ? -1 : 0);
    }
    moveTo(place);
    walk = { position: place, line };
    lineItems.find((item) => item.dataset.line === line).scrollIntoView({ block: "nearest" });
  }

  $(".line-on").addEventListener("click", () => step(1));
  $(".line-back").addEventListener("click", () => step(-1));
  $(".followed").addEventListener("change", (event) => follow({ ...spot, sample: Number(event.target.value) }));
  section.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by || event.target.tagName === "SELECT" || !clock.frames.length) return;
    event.preventDefault();
    step(by);
  });
  section.addEventListener("toggle", () => { // at the end of a run there is no step to look into
    if (section.open && clock.ended && !clock.playing && !clock.frames[clock.position]?.lines) moveTo(Math.floor((clock.frames.length - 1) / 2));
  });

  return { begin, paint, follow };
}
