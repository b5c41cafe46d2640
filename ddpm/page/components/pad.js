// The pad: points in [−1, 1]², a byte a coordinate, as base64url in the component's value.
import { fromLink, toLink } from "./base64.js";
import { strokes } from "./strokes.js";

const GAP = 0.035, ERASER = 0.12; // in the units of the axes

// --- the drawing as text -------------------------------------------------------------------------------------------

const toByte = (v) => Math.round((Math.min(Math.max(v, -1), 1) + 1) * 127.5);

const encode = (points) => toLink(points.flatMap(([x, y]) => [toByte(x), toByte(y)]));

function decode(text) {
  const bytes = fromLink(text);
  return Array.from({ length: bytes.length / 2 }, (_, i) => [0, 1].map((k) => bytes[2 * i + k] / 127.5 - 1));
}

// --- shapes to start with ------------------------------------------------------------------------------------------

const evenly = (count, of) => Array.from({ length: count }, (_, i) => of(i / count));
const line = (a, b, count) => evenly(count, (t) => [0, 1].map((k) => a[k] + (b[k] - a[k]) * t));
const arc = (x, y, radius, from, to, count) => evenly(count, (t) => [x + radius * Math.cos(from + (to - from) * t), y + radius * Math.sin(from + (to - from) * t)]);
const turn = 2 * Math.PI;

const SHAPES = {
  heart: () => evenly(160, (t) => [0.055 * 16 * Math.sin(turn * t) ** 3, 0.055 * (13 * Math.cos(turn * t) - 5 * Math.cos(2 * turn * t) - 2 * Math.cos(3 * turn * t) - Math.cos(4 * turn * t) + 2)]),
  smile: () => [...arc(0, 0, 0.9, 0, turn, 150), ...arc(-0.32, 0.28, 0.1, 0, turn, 24), ...arc(0.32, 0.28, 0.1, 0, turn, 24), ...arc(0, -0.05, 0.5, 1.15 * Math.PI, 1.85 * Math.PI, 50)],
  star: () => {
    const corner = (i) => [0.9, 0.38][i % 2] && [Math.sin((i * turn) / 10), Math.cos((i * turn) / 10)].map((v) => v * [0.9, 0.38][i % 2]);
    return Array.from({ length: 10 }, (_, i) => line(corner(i), corner(i + 1), 18)).flat();
  },
  letters: () => [...line([-0.8, -0.7], [-0.8, 0.7], 50), ...line([-0.1, -0.7], [-0.1, 0.7], 50), ...line([-0.8, 0], [-0.1, 0], 24), ...line([0.6, -0.7], [0.6, 0.7], 50)],
};

export function mount({ element, props, trigger, watch }) {
  const $ = (selector) => element.querySelector(selector);
  const canvas = $("canvas"), pencil = canvas.getContext("2d"), most = JSON.parse(props.most);

  let points = [], past = [], last = null, before = null;

  const inUnits = ([x, y]) => [2 * x - 1, 1 - 2 * y];

  function touch([x, y]) {
    if ($("input:checked").value === "erase") points = points.filter(([u, v]) => Math.hypot(u - x, v - y) > ERASER);
    else along(last ?? [x, y], [x, y]);
  }

  // Points at even distances from a to b, b itself if it is the first of its stroke.
  function along(a, b) {
    const length = Math.hypot(b[0] - a[0], b[1] - a[1]);
    if (last && length < GAP) return;
    const steps = Math.max(Math.floor(length / GAP), 1);
    for (let i = 1; i <= steps && points.length < most; i++) points.push([0, 1].map((k) => a[k] + ((b[k] - a[k]) * i) / steps));
    last = b;
  }

  function replace(next) {
    past.push(points);
    points = next.slice(0, most);
    publish();
  }

  function publish() {
    draw();
    if (encode(points) === props.value) return;
    props.value = encode(points);
    trigger("change");
    trigger("input");
  }

  function draw() {
    const style = getComputedStyle($(".pad")), size = canvas.width;
    pencil.clearRect(0, 0, size, size);
    pencil.fillStyle = style.color;
    for (const [x, y] of points) {
      pencil.beginPath();
      pencil.arc(((x + 1) * size) / 2, ((1 - y) * size) / 2, 6, 0, 6.3);
      pencil.fill();
    }
    const full = points.length >= most ? ": as many as fit into the link" : "";
    $(".count").textContent = points.length ? `${points.length} of ${most} points${full}` : "Draw here, or start with a shape.";
    $(".pad").dataset.points = points.length;
  }

  function go(places) {
    places.map(inUnits).forEach(touch);
    draw();
  }

  strokes(canvas, $(".cursor"), {
    begin(place) {
      [before, last] = [[...points], null];
      go([place]);
    },
    go,
    end() {
      past.push(before);
      publish();
    },
  });
  $(".undo").addEventListener("click", () => { if (past.length) { points = past.pop(); publish(); } });
  $(".clear").addEventListener("click", () => replace([]));
  element.querySelectorAll(".starter").forEach((button) => button.addEventListener("click", () => replace(SHAPES[button.dataset.shape]())));

  function load() {
    if (props.value !== encode(points)) points = decode(props.value || "");
    draw();
  }
  new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  watch("value", load);
  load();
}
