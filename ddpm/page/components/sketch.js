// The sketch: white strokes on black, kept as 28 × 28 pixels of 16 greys, two in a byte, as base64url in the value.
import { fromLink, toLink } from "./base64.js";
import { strokes } from "./strokes.js";

const SIDE = 28, PEN = 22; // about as thick as the strokes of MNIST, which are a little over two pixels wide

export function mount({ element, props, trigger, watch }) {
  const $ = (selector) => element.querySelector(selector);
  const canvas = $("canvas"), pencil = canvas.getContext("2d", { willReadFrequently: true });

  let past = [], last = null;

  // --- the drawing as text -------------------------------------------------------------------------------------------

  function encode() {
    const small = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE }).getContext("2d");
    small.imageSmoothingQuality = "high";
    small.drawImage(canvas, 0, 0, SIDE, SIDE);
    const { data } = small.getImageData(0, 0, SIDE, SIDE), grey = (i) => Math.round(data[4 * i] / 17);
    const bytes = Array.from({ length: (SIDE * SIDE) / 2 }, (_, i) => (grey(2 * i) << 4) | grey(2 * i + 1));
    if (!bytes.some(Boolean)) return "";
    return toLink(bytes);
  }

  function paint(text) {
    blank();
    if (!text) return;
    const bytes = fromLink(text), image = new ImageData(SIDE, SIDE);
    for (let i = 0; i < SIDE * SIDE; i++) {
      const value = 17 * (i % 2 ? bytes[i >> 1] & 15 : bytes[i >> 1] >> 4);
      image.data.set([value, value, value, 255], 4 * i);
    }
    const small = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
    small.getContext("2d").putImageData(image, 0, 0);
    pencil.imageSmoothingEnabled = false; // so that the drawing comes back from its text as it was
    pencil.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  function blank() {
    pencil.fillStyle = "black";
    pencil.fillRect(0, 0, canvas.width, canvas.height);
  }

  // --- strokes -----------------------------------------------------------------------------------------------------

  function draw(to) {
    Object.assign(pencil, { strokeStyle: "white", lineWidth: PEN, lineCap: "round" });
    pencil.beginPath();
    pencil.moveTo(...last);
    pencil.lineTo(...to);
    pencil.stroke();
    last = to;
  }

  function publish(text = encode()) {
    $(".count").textContent = text ? "" : "Draw a digit here, large and in the middle.";
    if (text === props.value) return;
    props.value = text;
    trigger("change");
    trigger("input");
  }

  const onCanvas = ([x, y]) => [x * canvas.width, y * canvas.height];

  strokes(canvas, $(".cursor"), {
    begin(place) {
      past.push(props.value);
      last = onCanvas(place);
      draw(last);
    },
    go: (places) => places.map(onCanvas).forEach(draw),
    end: () => publish(),
  });
  $(".undo").addEventListener("click", () => {
    if (!past.length) return;
    const text = past.pop();
    paint(text);
    publish(text);
  });
  $(".clear").addEventListener("click", () => {
    past.push(props.value);
    blank();
    publish();
  });

  function load() {
    if (props.value !== encode()) paint(props.value);
    $(".count").textContent = props.value ? "" : "Draw a digit here, large and in the middle.";
  }
  watch("value", load);
  blank();
  load();
}
