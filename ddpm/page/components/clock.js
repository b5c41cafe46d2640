// The clock of the lessons that show a run: its frames as they arrive, the controls of time, layers.
import { writeAddress } from "./address.js";
import { mountSaving } from "./save.js";
import { parse, stage } from "./shared.js";
import { percent, signed } from "./words.js";

function wordsOfLevel(frame, steps) {
  const level = frame.logSnr === null ? "∞ (no noise is left)" : signed(frame.logSnr);
  return [`step t = ${frame.index} of ${steps}`, `log-SNR λ = ${level} · signal left ᾱ = ${percent(frame.alphaBar)}`];
}

/**
 * What differs from lesson to lesson.
 * @typedef {object} LessonScreen
 * @property {(bytes: Uint8Array, stood: number) => void} begin A new run, after one that stood at that share of its frames.
 * @property {(header: any, bytes: Uint8Array) => any} decode Gives the frame.
 * @property {(frame: any) => string[]} [describe] The step and its level in words.
 * @property {(frame: any) => void} paint
 * @property {() => void} rest Adds to the plots what stands still.
 * @property {() => void} [show] Follows a change of a layer.
 * @property {() => any[][]} views What a picture of the run shows: a title, and a canvas or a plot.
 * @property {() => Record<string, any[]>} arrays The run's numbers and their shape, by name.
 */
/** @typedef {ReturnType<typeof stage> & Record<string, any>} Clock */

/** @type {(gradio: Gradio, screen: LessonScreen) => Clock} */
export function mountPlayer(gradio, screen) {
  const base = stage(gradio, { refresh, holds: () => clock.frames.length > 0, opened });
  const { element, $, player, plots, notify, foretell, redraw } = base;
  const slider = $(".position"), playButton = $(".play");
  const layers = [...element.querySelectorAll(".layers [name]")];
  const layer = Object.fromEntries(layers.map((control) => [control.name, control]));

  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  let lastTick = 0, ticking = false, stale = false, clearing = 0, built = false;
  /** @type {Clock} */
  const clock = {
    ...base, layer, receive, goOn, refresh, rest, unrest, show, setPlaying, moveTo, draw, clearTraces,
    describe: screen.describe ?? ((frame) => wordsOfLevel(frame, clock.run.run.steps)),
    run: null, frames: [], ended: null, // the run's header, its frames, its end
    position: 0, playing: false, settling: 0, resting: false,
    hold: null, // the position at which a run is to stand still while its frames arrive
    patient: false, // whether it stands at its first frame until the last is there, for who wants no motion
  };
  const { describe } = clock, offerSettings = mountSaving(clock, screen);

  // --- messages ----------------------------------------------------------------------------------------------------

  function receive(message) {
    const [header, bytes] = parse(message);
    if (header.kind === "start") open(header, bytes);
    else if (!clock.run || header.job > clock.run.job) return foretell(header);
    else if (header.job < clock.run.job) return; // a late frame of a run that has been replaced
    else if (header.kind === "waiting") notify([...clock.run.notes, header.note]);
    else if (header.kind === "frame") {
      if (!clock.frames.length) notify(clock.run.notes); // the waiting is over
      clock.frames.push(screen.decode(header, bytes));
      if (clock.hold !== null) clock.position = Math.min(clock.hold, clock.frames.length - 1);
    }
    else close(header);
    refresh();
  }

  function open(header, bytes) {
    const stood = clock.run ? (clock.hold ?? clock.position) / Math.max(clock.run.frames - 1, 1) : 0;
    unrest();
    clearTimeout(clock.settling);
    clock.run = header;
    [clock.frames, clock.ended, clock.position, clock.playing, lastTick, clock.hold, clock.patient] = [[], null, 0, !calm.matches, 0, null, calm.matches];
    slider.max = clock.run.frames - 1;
    notify(clock.run.notes);
    writeAddress(clock.run.query);
    $(".hint").hidden = true;
    offerSettings();
    [playButton, $(".back"), $(".forward"), slider].forEach((control) => { control.disabled = false; });
    screen.begin(bytes, stood);
  }

  // The same run again, under another number: what it has shown stays.
  function goOn(header) {
    unrest();
    clearTimeout(clock.settling);
    [clock.run.job, clock.ended, clock.hold, clock.playing, clock.patient, clock.position] = [header.job, null, null, !calm.matches, calm.matches, Math.max(clock.frames.length - 1, 0)];
    notify(header.notes);
    refresh();
  }

  function close(header) {
    clock.ended = header;
    if (header.problem) notify([...clock.run.notes, header.problem]);
    if (clock.patient && clock.hold === null) clock.position = Math.max(clock.frames.length - 1, 0);
    clock.patient = false;
    if (!clock.playing) rest();
  }

  // Called when a control changes: the address follows at once, the run at the next Generate.
  function changed(query) {
    writeAddress(query);
    $(".hint").hidden = !clock.run || Object.entries(query).every(([name, value]) => String(value) === clock.run.query[name]);
  }

  // The layers are the browser's own, and part of the address.
  const asked = new URL(window.location.href).searchParams;
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
    const before = clock.position;
    ticking = false;
    if (clock.playing) advance(now);
    if (stale || clock.position !== before) { stale = false; draw(); }
    if (clock.playing) awaitTick();
  }

  function advance(now) {
    const interval = 1000 / Number($(".rate").value), last = clock.frames.length - 1;
    const late = Math.floor((now - lastTick) / interval + 0.2); // a picture that is due before the next tick is due now
    const due = Math.min(late, 3); // a page that was held up does not jump to the end of a short run
    if (clock.position < last && due > 0) {
      clock.position = lastTick ? Math.min(clock.position + due, last) : clock.position;
      lastTick = Math.max(lastTick + due * interval, now - interval);
    }
    if (clock.ended && clock.position >= last) setPlaying(false);
  }

  function setPlaying(value) {
    if (value && clock.ended && clock.position >= clock.frames.length - 1) clock.position = 0;
    clearTimeout(clock.settling);
    [clock.hold, clock.patient] = [null, false];
    clock.playing = value;
    lastTick = performance.now();
    if (!clock.playing) rest(); else unrest();
    refresh();
  }

  function moveTo(target) {
    if (!clock.frames.length) return;
    unrest();
    [clock.playing, clock.hold, clock.patient] = [false, null, false];
    clock.position = Math.min(Math.max(target, 0), clock.frames.length - 1);
    clearTimeout(clock.settling);
    clock.settling = setTimeout(() => setPlaying(false), 250); // moving goes on while the plots would still be filled
    refresh();
  }

  function draw() {
    $(".play .shape").setAttribute("d", clock.playing ? "M3 1h4v14H3zM9 1h4v14H9z" : "M3 1v14l11-7z");
    playButton.setAttribute("aria-label", clock.playing ? "Pause" : "Play");
    const state = !clock.run ? "" : !clock.ended ? "computing" : clock.ended.problem ? "failed" : clock.frames.length < clock.run.frames ? "stopped" : "finished";
    player.dataset.state = state;
    player.dataset.job = clock.run ? clock.run.job : "";
    player.dataset.frames = clock.frames.length;
    player.dataset.position = clock.position;
    player.dataset.playing = clock.playing;
    if (clock.run) progress(state);
    if (!clock.frames.length) return;
    const frame = clock.frames[clock.position], [step, level] = describe(frame);
    $(".step").textContent = step;
    $(".level").textContent = level;
    slider.setAttribute("aria-valuetext", step);
    tell(state, step, level);
    slider.value = clock.position;
    $(".loaded").style.width = `${(100 * Math.max(clock.frames.length - 1, 0)) / Math.max(slider.max, 1)}%`;
    screen.paint(frame);
    redraw();
  }

  // What the animation shows, for who hears the page: once while it moves, and where it stands when it stands still.
  function tell(state, step, level) {
    const { shows } = player.dataset;
    const sentence = clock.playing ? `Playing: ${shows}.` : clock.patient ? "Computing." : `The run is ${state}. Shown are, at ${step}, ${shows}: ${level}.`;
    if ($(".heard").textContent !== sentence) $(".heard").textContent = sentence;
  }

  function progress(state) {
    const seconds = !clock.ended || !clock.frames.length ? "" : `, computed in ${clock.frames[clock.frames.length - 1].seconds.toFixed(1)} s`;
    const all = clock.run.run.steps + 1, some = clock.run.frames < all;
    const states = !some ? "states" : state === "finished" ? `states shown (of ${all} computed)` : "states to show";
    $(".speed").textContent = clock.run.frames === 1 ? (state === "finished" ? "" : state) : `${state}: ${clock.frames.length} of ${clock.run.frames} ${states}${seconds}`;
  }

  // Has the plots hold the run once it stands still, in place of the canvas over them.
  function rest() {
    if (!built || !clock.frames.length) return;
    clearTraces();
    player.dataset.resting = clock.resting = true;
    screen.rest();
    refresh();
  }

  function unrest() {
    player.dataset.resting = clock.resting = false;
    clearTimeout(clearing);
    clearing = setTimeout(clearTraces, 100); // for which Plotly needs a while: later, so that a picture comes first
  }

  // After a layer has changed: the same step, drawn anew.
  function show() {
    screen.show?.();
    if (clock.resting) rest(); else refresh();
  }

  function clearTraces() {
    clearTimeout(clearing);
    for (const one of plots) {
      const extra = one.div.data.map((_, i) => i).slice(one.still);
      if (extra.length) Plotly.deleteTraces(one.div, extra);
    }
  }

  function opened() {
    built = true;
    if (clock.run && !clock.playing) rest();
  }

  // --- controls ----------------------------------------------------------------------------------------------------

  playButton.addEventListener("click", () => setPlaying(!clock.playing));
  $(".back").addEventListener("click", () => moveTo(clock.position - 1));
  $(".forward").addEventListener("click", () => moveTo(clock.position + 1));
  slider.addEventListener("input", () => moveTo(Number(slider.value)));
  window.addEventListener("resize", () => { if (clock.run) refresh(); });
  player.addEventListener("keydown", (event) => {
    const tag = event.target.tagName, keys = {
      " ": ["A", "BUTTON", "INPUT", "SELECT", "SUMMARY"].includes(tag) ? null : () => setPlaying(!clock.playing),
      ArrowLeft: ["INPUT", "SELECT"].includes(tag) ? null : () => moveTo(clock.position - 1),
      ArrowRight: ["INPUT", "SELECT"].includes(tag) ? null : () => moveTo(clock.position + 1),
      r: ["INPUT", "SELECT"].includes(tag) ? null : () => { clock.position = 0; setPlaying(true); },
    };
    if (!clock.frames.length || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  return clock;
}
