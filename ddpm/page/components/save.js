// What a visitor takes along of a run that stands still: its pictures as a file that moves or as a strip, its numbers, its
// settings. All of it is drawn from the frames that are here; only GIF and WebP are put together by the server.
import { npy, stacked, zip } from "./files.js";

const SIDE = { picture: 560, plot: 720 }, ROOM = 14, STRIP = 8; // pixels of a view at most, between views; steps of a strip
const MOST_AREA = 700_000; // pixels of one picture, of the 100 that a run shows at most

// A view as it is drawn into a picture: pixels stay whole, so that they can be told apart.
function stillPicture(title, canvas, share) {
  const zoom = Math.max(1, Math.floor((share * SIDE.picture) / Math.max(canvas.width, canvas.height)));
  const [w, h] = [canvas.width * zoom, canvas.height * zoom];
  return { title, width: w, height: h, paint: (pencil, x, y) => { pencil.imageSmoothingEnabled = false; pencil.drawImage(canvas, x, y, w, h); } };
}

function write(pencil, text, x, y, weight = 400) {
  pencil.font = `${weight} 16px system-ui, sans-serif`;
  pencil.fillText(text, x, y);
}

const png = (canvas) => new Promise((resolve) => { canvas.toBlob(async (blob) => resolve(new Uint8Array(await blob.arrayBuffer()))); });

export function save(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "application/octet-stream" }));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// The menu of the player whose clock it is; gives what offers the settings of a new run.
/** @type {(clock: Clock, screen: LessonScreen) => () => void} */
export function mountSaving(clock, screen) {
  const { $, setup, player, theme, notify } = clock;

  // --- pictures ----------------------------------------------------------------------------------------------------

  // Calls compose(views, frame) for each of the positions, with the page drawn as it is there, one after the other.
  async function shoot(positions, share, compose) {
    const [shot, stood, summary, made] = [clock.run, clock.position, $(".save summary"), []];
    const words = summary.textContent;
    clock.unrest();
    clock.clearTraces();
    clearTimeout(clock.settling);
    [clock.playing, clock.hold, player.inert] = [false, null, true];
    try {
      const shown = await Promise.all(screen.views().map(([title, view]) => (view.div ? stillPlot : stillPicture)(title, view, share)));
      for (const place of positions) {
        if (clock.run !== shot) throw new Error("A new run has begun, so the one before was not saved.");
        clock.position = place;
        clock.draw();
        summary.textContent = `Saving ${made.length + 1} of ${positions.length}`;
        made.push(await compose(shown, clock.frames[place]));
      }
      return made;
    } finally {
      player.inert = false;
      summary.textContent = words;
      if (clock.run === shot) { clock.position = stood; clock.setPlaying(false); }
    }
  }

  async function stillPlot(title, { div }, share) {
    const [wide, high] = [div.clientWidth, div.clientHeight], zoom = Math.min(1, (share * SIDE.plot) / wide), axes = new Image();
    axes.src = await Plotly.toImage(div, { format: "png", width: wide, height: high });
    await axes.decode();
    const [w, h] = [Math.round(wide * zoom), Math.round(high * zoom)];
    const paint = (pencil, x, y) => {
      pencil.imageSmoothingEnabled = true;
      for (const part of [axes, div.querySelector("canvas.over")]) pencil.drawImage(part, x, y, w, h);
    };
    return { title, width: w, height: h, paint };
  }

  // An empty sheet of about so many pixels, each side an even number of them, as video needs.
  /** @returns {[HTMLCanvasElement, CanvasRenderingContext2D]} */
  function paper(width, height, most) {
    const fit = Math.min(1, Math.sqrt(most / (width * height))), even = (length) => 2 * Math.ceil((length * fit) / 2);
    const canvas = Object.assign(document.createElement("canvas"), { width: even(width), height: even(height) });
    const pencil = canvas.getContext("2d"), style = getComputedStyle(player);
    for (const colour of ["#fff", style.getPropertyValue("--body-background-fill").trim()]) pencil.fillStyle = colour;
    pencil.fillRect(0, 0, canvas.width, canvas.height);
    pencil.scale(fit, fit);
    [pencil.fillStyle, pencil.textBaseline] = [theme().ink, "middle"];
    return [canvas, pencil];
  }

  // One step: its words, and below them the views side by side.
  function drawStep(shown, frame) {
    const width = shown.reduce((sum, view) => sum + view.width + ROOM, ROOM), head = 58, [step, level] = clock.describe(frame);
    const height = head + Math.max(...shown.map((view) => view.height)) + ROOM, [canvas, pencil] = paper(width, height, MOST_AREA);
    write(pencil, step, ROOM, 18, 600);
    const after = ROOM + pencil.measureText(step).width + 20;
    pencil.font = "400 16px system-ui, sans-serif";
    if (after + pencil.measureText(level).width < width) write(pencil, level, after, 18);
    let x = ROOM;
    for (const view of shown) {
      write(pencil, view.title, x, 44);
      view.paint(pencil, x, head);
      x += view.width + ROOM;
    }
    return canvas;
  }

  // Some steps as columns, with a row a view, into a sheet that is begun with the first.
  function drawStrip(sheetOfStrip, column, columns, shown, frame) {
    const head = 34, side = 74, wide = Math.max(...shown.map((view) => view.width));
    const high = shown.reduce((sum, view) => sum + view.height + ROOM, head);
    const [canvas, pencil] = sheetOfStrip ?? paper(side + columns * (wide + ROOM), high, Infinity);
    const x = side + column * (wide + ROOM);
    write(pencil, clock.describe(frame)[0].replace(/^step | of .*$/g, ""), x, 18, 600);
    let y = head;
    for (const view of shown) {
      const short = view.title.split(":")[0];
      if (!column && short.length < 4) write(pencil, short, ROOM, y + view.height / 2, 600); // axes have titles of their own
      view.paint(pencil, x, y);
      y += view.height + ROOM;
    }
    return [canvas, pencil];
  }

  // --- files -------------------------------------------------------------------------------------------------------

  const SAVERS = {
    gif: () => film("gif"),
    webp: () => film("webp"),
    png: saveStrip,
    npz: () => save("numbers.npz", zip(Object.entries({ ...times(), ...screen.arrays() }).map(([name, [numbers, shape]]) => [`${name}.npy`, npy(numbers, shape)]))),
  };

  async function film(kind) {
    const pictures = await shoot([...clock.frames.keys()], 1, (shown, frame) => png(drawStep(shown, frame)));
    const archive = zip(pictures.map((bytes, i) => [`${String(i).padStart(3, "0")}.png`, bytes]));
    if (archive.size > setup.most) throw new Error("The pictures are too large for the server: please make the window smaller.");
    const address = `${window.gradio_config.root}/movie/${kind}?rate=${$(".rate").value}`;
    const answer = await fetch(address, { method: "POST", body: archive }).catch(() => { throw new Error("The server that makes the file cannot be reached."); });
    if (!answer.ok) throw new Error(answer.headers.get("content-type")?.startsWith("text/plain") ? await answer.text() : "The server could not make the file.");
    save(`film.${kind}`, await answer.blob());
  }

  async function saveStrip() {
    const last = clock.frames.length - 1, count = Math.min(STRIP, clock.frames.length);
    const positions = Array.from({ length: count }, (_, i) => Math.round((i * last) / Math.max(count - 1, 1)));
    let begunStrip = null, column = 0;
    await shoot(positions, 0.5, (shown, frame) => { begunStrip = drawStrip(begunStrip, column++, count, shown, frame); });
    save("strip.png", await png(begunStrip[0]));
  }

  function offerSettings() {
    const settings = Object.fromEntries(Object.keys(clock.run.query).map((name) => [name, clock.run.run[name]]));
    $(".json").hidden = !Object.keys(settings).length; // a network that was loaded has none that made it
    $(".json").href = `data:application/json,${encodeURIComponent(JSON.stringify(settings, null, 2))}`;
  }

  // --- numbers -----------------------------------------------------------------------------------------------------

  function times() {
    const index = [Int32Array.from(clock.frames, (frame) => frame.index), [clock.frames.length]];
    if (clock.frames[0].logSnr === undefined) return { index };
    return { index, log_snr: stacked(clock.frames, (frame) => [frame.logSnr ?? Infinity]), alpha_bar: stacked(clock.frames, (frame) => [frame.alphaBar]) };
  }

  // --- the menu ----------------------------------------------------------------------------------------------------

  const menu = $(".save");
  menu.addEventListener("click", async (event) => {
    const saver = SAVERS[event.target.dataset.save];
    if (!saver) return;
    try {
      await saver();
      notify(clock.run.notes);
    } catch (error) {
      notify([...clock.run.notes, error.message]);
    }
    closeMenu();
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeMenu();
    event.stopPropagation(); // the player's keys are not the menu's
  });
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });

  function closeMenu() {
    menu.open = false;
    menu.querySelector("summary").focus();
  }

  return offerSettings;
}
