// The clock of the lessons that show a run: its frames as they arrive, the controls of time, layers. A lesson's own script
// follows in the same scope and defines: begin(bytes, stood) for a new run, after one that stood at that share of its
// frames; decode(header, bytes) -> frame; paint(frame); describe(frame) -> [step, level] in words; rest() to put the run
// into the plots once it stands still, unrest() to take it out; and if it has layers, show() to draw anew after a
// change of one.
const slider = $(".position"), playButton = $(".play");
const layers = [...element.querySelectorAll(".layers [name]")];
const layer = Object.fromEntries(layers.map((control) => [control.name, control]));

let run = null, frames = [], ended = null; // the run's header, its frames, its end
let position = 0, playing = false, lastTick = 0, ticking = false, stale = false, settling = 0, clearing = 0;
let hold = null; // the position at which a run is to stand still while its frames arrive
let patient = false; // whether it stands at its first frame until the last is there, for who wants no motion
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

// --- messages ----------------------------------------------------------------------------------------------------

function receive(message) {
  const [header, bytes] = parse(message);
  if (header.kind === "start") open(header, bytes);
  else if (!run || header.job > run.job) return foretell(header);
  else if (header.job < run.job) return; // a late frame of a run that has been replaced
  else if (header.kind === "waiting") notify([...run.notes, header.note]);
  else if (header.kind === "frame") {
    if (!frames.length) notify(run.notes); // the waiting is over
    frames.push(decode(header, bytes));
    if (hold !== null) position = Math.min(hold, frames.length - 1);
  }
  else close(header);
  refresh();
}

function open(header, bytes) {
  const stood = run ? (hold ?? position) / Math.max(run.frames - 1, 1) : 0;
  unrest();
  clearTimeout(settling);
  run = header;
  [frames, ended, position, playing, lastTick, hold, patient] = [[], null, 0, !calm.matches, 0, null, calm.matches];
  slider.max = run.frames - 1;
  notify(run.notes);
  writeAddress(run.query);
  $(".hint").hidden = true;
  offerSettings();
  [playButton, $(".back"), $(".forward"), slider].forEach((control) => { control.disabled = false; });
  begin(bytes, stood);
}

function close(header) {
  ended = header;
  if (header.problem) notify([...run.notes, header.problem]);
  if (patient && hold === null) position = Math.max(frames.length - 1, 0);
  patient = false;
  if (!playing) rest();
}

// Called when a control changes: the address follows at once, the run at the next Generate.
function changed(query) {
  writeAddress(query);
  $(".hint").hidden = !run || Object.entries(query).every(([name, value]) => String(value) === run.query[name]);
}

// The layers are the browser's own, and part of the address.
const asked = new URL(window.location).searchParams;
for (const control of layers) {
  const wanted = asked.get(`show_${control.name}`);
  if (wanted !== null && control.type === "checkbox") control.checked = wanted === "1";
  else if (wanted !== null && [...control.options].some((option) => option.value === wanted)) control.value = wanted;
  control.addEventListener("change", () => {
    writeAddress({ [`show_${control.name}`]: control.type === "checkbox" ? Number(control.checked) : control.value });
    show();
  });
}

// So is which parts of the player are open.
for (const part of element.querySelectorAll("details[data-part]")) {
  part.open = asked.get(`show_${part.dataset.part}`) === "1";
  part.addEventListener("toggle", () => {
    writeAddress({ [`show_${part.dataset.part}`]: Number(part.open) });
    refresh();
  });
}

// Sets layers by name, as a visitor would.
function choose(wanted) {
  for (const [name, value] of Object.entries(wanted)) {
    layer[name].value = value;
    layer[name].dispatchEvent(new Event("change"));
  }
}
window.ddpm = { changed, choose };

// --- the clock ---------------------------------------------------------------------------------------------------

function refresh() {
  stale = true;
  awaitTick();
}

function awaitTick() {
  if (!ticking) { ticking = true; requestAnimationFrame(tick); }
}

function tick(now) {
  const before = position;
  ticking = false;
  if (playing) advance(now);
  if (stale || position !== before) { stale = false; draw(); }
  if (playing) awaitTick();
}

function advance(now) {
  const interval = 1000 / Number($(".rate").value), last = frames.length - 1;
  const late = Math.floor((now - lastTick) / interval + 0.2); // a picture that is due before the next tick is due now
  const due = Math.min(late, 3); // a page that was held up does not jump to the end of a short run
  if (position < last && due > 0) {
    position = lastTick ? Math.min(position + due, last) : position;
    lastTick = Math.max(lastTick + due * interval, now - interval);
  }
  if (ended && position >= last) setPlaying(false);
}

function setPlaying(value) {
  if (value && ended && position >= frames.length - 1) position = 0;
  clearTimeout(settling);
  [hold, patient] = [null, false];
  playing = value;
  lastTick = performance.now();
  if (!playing) rest(); else unrest();
  refresh();
}

function moveTo(target) {
  if (!frames.length) return;
  unrest();
  [playing, hold, patient] = [false, null, false];
  position = Math.min(Math.max(target, 0), frames.length - 1);
  clearTimeout(settling);
  settling = setTimeout(() => setPlaying(false), 250); // moving goes on while the plots would still be filled
  refresh();
}

function draw() {
  $(".play .shape").setAttribute("d", playing ? "M3 1h4v14H3zM9 1h4v14H9z" : "M3 1v14l11-7z");
  playButton.setAttribute("aria-label", playing ? "Pause" : "Play");
  const state = !run ? "" : !ended ? "computing" : ended.problem ? "failed" : frames.length < run.frames ? "stopped" : "finished";
  player.dataset.state = state;
  player.dataset.job = run ? run.job : "";
  player.dataset.frames = frames.length;
  player.dataset.position = position;
  player.dataset.playing = playing;
  if (run) progress(state);
  if (!frames.length) return;
  const frame = frames[position], [step, level] = describe(frame);
  $(".step").textContent = step;
  $(".level").textContent = level;
  slider.setAttribute("aria-valuetext", step);
  tell(state, step, level);
  slider.value = position;
  $(".loaded").style.width = `${(100 * Math.max(frames.length - 1, 0)) / Math.max(slider.max, 1)}%`;
  paint(frame);
  plots.forEach((one) => one.draw());
}

// What the animation shows, for who hears the page: once while it moves, and where it stands when it stands still.
function tell(state, step, level) {
  const { shows } = player.dataset;
  const sentence = playing ? `Playing: ${shows}.` : patient ? "Computing." : `The run is ${state}. Shown are, at ${step}, ${shows}: ${level}.`;
  if ($(".heard").textContent !== sentence) $(".heard").textContent = sentence;
}

function progress(state) {
  const seconds = !ended || !frames.length ? "" : `, computed in ${frames[frames.length - 1].seconds.toFixed(1)} s`;
  const all = run.run.steps + 1, some = run.frames < all;
  const states = !some ? "states" : state === "finished" ? `states shown (of ${all} computed)` : "states to show";
  $(".speed").textContent = run.frames === 1 ? (state === "finished" ? "" : state) : `${state}: ${frames.length} of ${run.frames} ${states}${seconds}`;
}

function wordsOfLevel(frame) {
  const level = frame.logSnr === null ? "∞ (no noise is left)" : signed(frame.logSnr);
  return [`step t = ${frame.index} of ${run.run.steps}`, `log-SNR λ = ${level} · signal left ᾱ = ${percent(frame.alphaBar)}`];
}

// Takes out the traces that rest() has added, for which Plotly needs a while: later, so that a picture comes first.
function clearSoon() {
  clearTimeout(clearing);
  clearing = setTimeout(clearTraces, 100);
}

function clearTraces() {
  clearTimeout(clearing);
  for (const one of plots) {
    const extra = one.div.data.map((_, i) => i).slice(one.still);
    if (extra.length) Plotly.deleteTraces(one.div, extra);
  }
}

const holds = () => frames.length > 0;

function opened() {
  if (run && !playing) rest();
}

// --- controls ----------------------------------------------------------------------------------------------------

playButton.addEventListener("click", () => setPlaying(!playing));
$(".back").addEventListener("click", () => moveTo(position - 1));
$(".forward").addEventListener("click", () => moveTo(position + 1));
slider.addEventListener("input", () => moveTo(Number(slider.value)));
window.addEventListener("resize", () => { if (run) refresh(); });
player.addEventListener("keydown", (event) => {
  const tag = event.target.tagName, keys = {
    " ": ["A", "BUTTON", "INPUT", "SELECT", "SUMMARY"].includes(tag) ? null : () => setPlaying(!playing),
    ArrowLeft: ["INPUT", "SELECT"].includes(tag) ? null : () => moveTo(position - 1),
    ArrowRight: ["INPUT", "SELECT"].includes(tag) ? null : () => moveTo(position + 1),
    r: ["INPUT", "SELECT"].includes(tag) ? null : () => { position = 0; setPlaying(true); },
  };
  if (!frames.length || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
