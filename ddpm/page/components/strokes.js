// Strokes on a canvas, by mouse, pen or finger, or by keyboard: arrow keys move the pen, Space puts it down and lifts it.
// begin gets the place where a stroke begins, go the places that it comes to next: shares of the canvas's width and height,
// from its upper left corner.
const STEP = 1 / 28;

export function strokes(canvas, cursor, { begin, go, end }) {
  let down = false, pen = [0.5, 0.5];

  function start(place) {
    finish();
    down = true;
    begin(place);
  }

  function finish() {
    if (!down) return;
    down = false;
    end();
  }

  function show() {
    [cursor.style.left, cursor.style.top] = pen.map((share) => `${100 * share}%`);
    cursor.classList.toggle("down", down);
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    start(place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (down && canvas.hasPointerCapture(event.pointerId)) go((event.getCoalescedEvents?.() ?? [event]).map(place));
  });
  canvas.addEventListener("pointerup", finish);
  canvas.addEventListener("pointercancel", finish);

  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || (!move && event.key !== " ")) return;
    event.preventDefault();
    event.stopPropagation();
    if (move) {
      pen = pen.map((share, k) => Math.min(Math.max(share + move[k] * STEP, 0), 1));
      if (down) go([pen]);
    } else if (down) finish();
    else start(pen);
    show();
  });
  canvas.addEventListener("blur", () => { finish(); show(); });
  show();
}
