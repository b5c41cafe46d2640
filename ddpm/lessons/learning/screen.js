// The learning lesson's screen: a message holds a step of Algorithm 1, another the samples after some of their steps.
import { writeAddress } from "../../page/components/address.js";
import { parse, stage } from "../../page/components/shared.js";
import { paintPicture, pictures } from "../../page/components/tiles.js";
import { rgb, signed } from "../../page/components/words.js";

const NAMES = { unet: "small U-Net", convolutions: "two convolutions" };
const INFERNO = ["#000004", "#420a68", "#932667", "#dd513a", "#fca50a", "#fcffa4"].map(rgb);
const STYLES = ["dot", "dash", "dashdot", "longdash", "longdashdot", "solid"];
const small = (value) => (value === 0 ? "0" : value >= 0.1 ? value.toFixed(2) : value.toFixed(value >= 0.001 ? 4 : 5));
function label(sign, words, of = "") {
  const name = Object.assign(document.createElement("div"), { className: `name of-${of}` });
  name.append(...(sign ? [Object.assign(document.createElement("b"), { innerHTML: sign })] : []), Object.assign(document.createElement("small"), { textContent: words }));
  return name;
}
function values(sign, words, texts, of) {
  return [label(sign, words, of), ...texts.map((text) => Object.assign(document.createElement("div"), { className: "value", textContent: text }))];
}

export function mount(gradio) {
  const { setup, $, player, listen, notify, colours, theme, plot, openPlots } = stage(gradio, { refresh: fill });
  const size = setup.shape[0] * setup.shape[1] * setup.shape[2];
  let begun = { step: null, samples: null }, curves = null, byT = null;

  // --- messages ----------------------------------------------------------------------------------------------------

  // A step and the samples are separate jobs: the samples go on while the visitor looks at other steps.
  function receive(message) {
    const [header, bytes] = parse(message);
    if (header.kind === "start") start(header);
    else if (header.job === begun.step?.job && header.kind === "step") showStep(header, bytes);
    else if (header.job === begun.samples?.job && header.kind === "samples") showSamples(header, bytes);
    else if (header.job !== begun.step?.job && header.job !== begun.samples?.job) return; // late, of a job replaced
    else if (header.kind === "waiting") notify([header.note]);
    else if (header.problem) notify([header.problem]);
  }

  function start(header) {
    if (begun[header.what] && header.job < begun[header.what].job) return;
    begun[header.what] = header;
    writeAddress(header.query);
    if (header.what === "step") { notify(header.notes); markRows(); fill(); }
    else player.dataset.sampled = "";
  }

  // The steps that the chosen snapshot has been trained for.
  const trainedFor = (name) => setup.trained[name].steps[setup.snapshots.indexOf(begun.step.run.snapshot)];

  // --- one step of Algorithm 1 ---------------------------------------------------------------------------------------

  function showStep(header, bytes) {
    const rows = pictures(bytes, setup.shape), { t, labels, descent, errors } = header, count = setup.pictures;
    const row = (i) => rows.slice(i * count, (i + 1) * count);
    $(".of-x0").textContent = `${count} test pictures: ${labels.join(", ")}`;
    $(".of-t").textContent = `t = ${t.join(", ")}`;
    $(".of-noise").textContent = `${(count * size).toLocaleString("en")} random numbers: mean ${signed(header.mean)}, variance ${header.variance.toFixed(2)}`;
    $(".of-loss").textContent = `mean squared error ${small(descent.loss)}, gradient of length ${small(descent.gradient)}; before the step ${descent.loss.toPrecision(5)}, after it ${descent.after.toPrecision(5)}`;
    $(".of-end").textContent = `this network has done it ${trainedFor("unet").toLocaleString("en")} times, with other pictures each time`;
    const cells = [...line("x₀", "real pictures", row(0)), ...values("t", "drawn at random", t.map(String)),
      ...line("ε", "the noise drawn, a third as strong", row(1)), ...line("x<sub>t</sub>", "all the network sees", row(2))];
    Object.keys(errors).forEach((name, i) => {
      cells.push(...line("ε̂", `predicted by the ${NAMES[name]}, as ε`, row(3 + 2 * i), name),
        ...line("(ε − ε̂)²", "its squared error", row(4 + 2 * i).map(heat), name), ...values("", "mean over the picture", errors[name].map(small), name));
    });
    $(".batch").replaceChildren(...cells);
    player.dataset.step = header.job;
    player.dataset.loss = descent.loss;
  }

  function line(sign, words, row, of) {
    return [label(sign, words, of), ...row.map((picture, i) => {
      const canvas = Object.assign(document.createElement("canvas"), { ariaLabel: `${sign.replace(/<.*?>/g, "")} of picture ${i + 1}` });
      canvas.setAttribute("role", "img");
      if (picture.heat) paintPicture(canvas, picture.heat, [3, setup.shape[1], setup.shape[2]]);
      else paintPicture(canvas, picture, setup.shape);
      return canvas;
    })];
  }

  // Bytes of |ε − ε̂| as the three colours of a scale that is dark at 0: by its square, as the legend says.
  function heat(picture) {
    const bytes = new Uint8Array(3 * size);
    picture.forEach((value, i) => {
      const place = (value / 255) * (INFERNO.length - 1), k = Math.min(Math.floor(place), INFERNO.length - 2);
      for (let c = 0; c < 3; c++) bytes[c * size + i] = INFERNO[k][c] + (place - k) * (INFERNO[k + 1][c] - INFERNO[k][c]);
    });
    return { heat: bytes };
  }

  // --- samples -------------------------------------------------------------------------------------------------------

  function markRows() {
    const chosen = setup.snapshots.indexOf(begun.step.run.snapshot);
    [...$(".samples").querySelectorAll(".name")].forEach((name, i) => name.classList.toggle("chosen", i === chosen));
  }

  function showSamples(header, bytes) {
    const across = setup.labels.length, box = $(".samples"), rows = setup.trained.unet.steps;
    if (!box.children.length) {
      const names = [...rows.map((count) => [`after ${count.toLocaleString("en")} steps`, "unet"]), ["two convolutions, at their end", "convolutions"]];
      for (const [text, of] of names) {
        box.append(Object.assign(document.createElement("div"), { className: `name of-${of}`, textContent: text }));
        for (const digit of setup.labels) {
          const canvas = document.createElement("canvas");
          canvas.setAttribute("role", "img");
          canvas.ariaLabel = `asked for a ${digit}, ${text}`;
          box.append(canvas);
        }
      }
      markRows();
    }
    const canvases = box.querySelectorAll("canvas");
    pictures(bytes, setup.shape).forEach((picture, i) => paintPicture(canvases[i], picture, setup.shape));
    $(".of-samples").textContent = `Asked for ${setup.labels.join(", ")}; ${across} pictures each, computed now: step t = ${header.index} of ${setup.samplingSteps}. The two convolutions are not told the digit.`;
    player.dataset.index = header.index;
    if (header.index === 0) player.dataset.sampled = header.job;
  }

  // --- plots ---------------------------------------------------------------------------------------------------------

  function fill() {
    if (!byT || !begun.step) return;
    const colour = colours(), chosen = setup.snapshots.indexOf(begun.step.run.snapshot);
    const seen = (all) => { const points = all.filter(([step]) => step > 0); return { x: points.map(([step]) => step), y: points.map(([, loss]) => loss) }; };
    const drawn = Object.entries(setup.trained).flatMap(([name, { curves: of }]) => [
      { ...seen(of.training), mode: "lines", name: `${NAMES[name]}, seen`, line: { color: colour(name), width: 1.5, dash: "dot" }, hovertemplate: "step %{x}: %{y:.4f}" },
      { ...seen(of.held_out), mode: "lines+markers", name: `${NAMES[name]}, held out`, line: { color: colour(name), width: 2 }, marker: { size: 6, symbol: name === "unet" ? "circle" : "square" }, hovertemplate: "step %{x}: %{y:.4f}" },
    ]);
    const now = trainedFor("unet");
    const shapes = now >= 10 ? [{ type: "line", x0: now, x1: now, yref: "paper", y0: 0, y1: 1, line: { color: theme().ink, width: 1 } }] : [];
    Plotly.react(curves.div, drawn, { ...curves.div.layout, shapes });
    const levels = (of, i, name, style) => {
      const [step, losses] = of.by_t[i], wide = setup.T / losses.length;
      return { x: losses.map((_, k) => setup.T - (k + 0.5) * wide), y: losses, mode: "lines", name: `${name}${step.toLocaleString("en")} steps`, hovertemplate: "t = %{x}: %{y:.4f}", ...style };
    };
    const ends = setup.trained.convolutions.curves;
    Plotly.react(byT.div, [
      ...setup.trained.unet.curves.by_t.map((_, i) => levels(setup.trained.unet.curves, i, "", { line: { color: colour(i === chosen ? "unet" : "faint"), width: i === chosen ? 4 : 1.5, dash: STYLES[i] } })),
      levels(ends, ends.by_t.length - 1, "two convolutions, ", { line: { color: colour("convolutions"), width: 2 } }),
    ], byT.div.layout);
  }

  $(".heat-scale .most").textContent = `${setup.errorShown ** 2} or more`;

  openPlots(async () => {
    const still = { dragmode: false, showlegend: true, margin: { l: 58, r: 12, t: 10, b: 108 }, legend: { orientation: "h", y: -0.22, yanchor: "top", font: { size: 11 } } };
    const axis = (title, range, more) => ({ title: { text: title, standoff: 4 }, range, fixedrange: true, zeroline: false, ...more });
    const log = { type: "log", exponentformat: "none", tickvals: [0.00001, 0.0001, 0.001, 0.01, 0.03, 0.1, 0.3, 1, 10, 100, 1000, 10000] };
    curves = await plot($(".curves"), [], { ...still, xaxis: axis("steps of training", [0.95, 4.2], log), yaxis: axis("mean squared error of ε̂", [-2, 0.1], log) }, () => {});
    byT = await plot($(".by-t"), [], { ...still, xaxis: axis("step t: data at 0, noise at 1,000", [0, setup.T], {}), yaxis: axis("mean squared error of ε̂", [-5.2, 0.2], log) }, () => {});
  });

  listen(receive);
}
