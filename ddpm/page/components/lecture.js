// Lecture mode, the link for students, and files that hold a run or a lecture, on every page. The mode and the experiment
// shown are in the address, the lecture itself in this browser.
import { replaceAddress, tellParent } from "./address.js";

const STORE = "ddpm.lecture", OWN = ["lecture", "experiment"]; // of an address: not for the students, as are names with __
const MOST = { experiments: 100, bytes: 200_000, title: 200, text: 1000, link: 4000 };

function parsed(text) {
  let given = null;
  try { given = JSON.parse(text); } catch { throw new Error("This is no JSON file."); }
  if (given === null || typeof given !== "object" || Array.isArray(given)) throw new Error("This is neither a run nor a lecture: the JSON must be an object.");
  return given;
}

const kindOf = (value) => (value === null ? "null" : Array.isArray(value) ? "a list" : "an object");

function text(what, value, most, least = 1) {
  if (typeof value === "string" && value.length >= least && value.length <= most) return value;
  throw new Error(`The ${what} must be text of ${least} to ${most.toLocaleString("en")} characters.`);
}

export function mount({ element, props }) {
  const setup = JSON.parse(props.setup), root = window.gradio_config.root, page = document.body;
  const here = window.gradio_config.current_page;
  const $ = (selector) => element.querySelector(selector);
  /** @type {(selector: string) => any} */
  const find = (selector) => document.querySelector(selector);
  const asked = new URL(window.location.href).searchParams;

  // A Space opens the first page, whatever lesson its address is of.
  const lesson = window.location.hash.replace("#/", "");
  if (!here && lesson && Object.hasOwn(setup.pages, lesson)) window.location.replace(`${root}/${lesson}${window.location.search}`);

  let lecture = stored(), at = Number(asked.get("experiment")) - 1; // which experiment of the lecture is shown
  if (!lecture?.experiments[at]) at = -1;
  let ours = -1; // which of the page's own, if no lecture is open

  // --- files -------------------------------------------------------------------------------------------------------

  async function read(file) {
    try {
      if (file.size > MOST.bytes) throw new Error(`The file has ${Math.round(file.size / 1000)} kB; ${MOST.bytes / 1000} kB at most are allowed.`);
      const given = parsed(await file.text());
      if ("experiments" in given) begin(lectureOf(given)); else visit(linkOf(given));
    } catch (error) {
      say(`${file.name.slice(0, 60)}: ${error.message}`);
    }
  }

  // The link of a run's settings, for the page that has them all; the page itself then corrects values, as those of any link.
  function linkOf(given) {
    const names = Object.keys(given), pages = Object.entries(setup.pages);
    if (!names.length) throw new Error("This run has no settings.");
    for (const name of names) {
      if (!pages.some(([, own]) => Object.hasOwn(own, name))) throw new Error(`The run has the unknown setting “${name.slice(0, 40)}”.`);
      if (!["string", "number", "boolean"].includes(typeof given[name])) throw new Error(`The ${name} is ${kindOf(given[name])}; it must be text or a number.`);
    }
    const fitting = pages.filter(([, own]) => names.every((name) => Object.hasOwn(own, name)));
    if (!fitting.length) throw new Error("The run mixes the settings of several lessons.");
    const needless = ([, own]) => Object.keys(own).length - names.length, other = ([, own]) => (own.model === given.model ? 0 : 1);
    const [[path]] = fitting.sort((a, b) => needless(a) - needless(b) || other(a) - other(b));
    return `/${path}?${new URLSearchParams(given)}`;
  }

  // What is in a lecture's file, once it is what it must be: {title, experiments: [{link, title, text}]}.
  function lectureOf({ title, experiments }) {
    const name = text("title of the lecture", title, MOST.title);
    if (!Array.isArray(experiments) || !experiments.length || experiments.length > MOST.experiments) throw new Error(`A lecture must have 1 to ${MOST.experiments} experiments.`);
    return { title: name, experiments: experiments.map((one, i) => ({
      title: text(`title of experiment ${i + 1}`, one?.title, MOST.title), text: text(`text of experiment ${i + 1}`, one?.text ?? "", MOST.text, 0),
      link: within(text(`link of experiment ${i + 1}`, one?.link, MOST.link), i + 1) })) };
  }

  // The link if it leads to a page of this app.
  function within(link, number) {
    const bare = link.startsWith("/") && URL.canParse(root + link) ? new URL(root + link) : null;
    const path = bare?.href.startsWith(`${root}/`) ? bare.href.slice(root.length + 1).replace(/[?#].*$/, "") : null;
    if (path !== null && Object.hasOwn(setup.pages, path)) return link;
    const paths = Object.keys(setup.pages).map((known) => `/${known}`).join(", ");
    throw new Error(`The link of experiment ${number} is “${link.slice(0, 60)}”; it must begin with one of ${paths}.`);
  }

  // A lecture is kept in this browser. Where that is denied, or full, the tab's name holds it from page to page: it is taken
  // from a page of ours only, since whoever opens a tab may name it.
  function stored() {
    const ofTab = () => (document.referrer.startsWith(`${window.location.origin}/`) ? window.name : "");
    for (const kept of [() => localStorage.getItem(STORE), ofTab]) {
      try { return lectureOf(JSON.parse(kept())); } catch { /* none, or an older version's, or denied */ }
    }
    return null;
  }

  function keep(text) {
    try {
      localStorage.removeItem(STORE);
      localStorage.setItem(STORE, text);
    } catch {
      window.name = text;
    }
  }

  function begin(given) {
    keep(JSON.stringify(given));
    lecture = given;
    show(0);
  }

  // --- the way through a lecture -------------------------------------------------------------------------------------

  // To the next experiment or the one before: of the lecture or, if none is open, of the page.
  async function step(by) {
    if (lecture) return show(at + by);
    const presets = [...find("#presets")?.querySelectorAll("button") ?? []], input = find("#experiment input");
    if (!presets.length && !input) return say("This page has no experiments, and no lecture is open: open its file, a list of experiments as JSON.");
    const options = presets.length ? presets : await optionsOf(input);
    ours = Math.min(Math.max(ours + by, 0), options.length - 1);
    if (presets.length) return presets[ours].click();
    options[ours].dispatchEvent(new MouseEvent("mousedown", { bubbles: true, cancelable: true }));
    input.blur();
  }

  // The options of one of Gradio's drop-down lists, which are there while it is open.
  async function optionsOf(input) {
    const list = () => [...input.closest("#experiment").querySelectorAll("[role=option]")];
    input.focus();
    while (!list().length) await new Promise(requestAnimationFrame);
    return list();
  }

  function show(index) {
    if (lecture.experiments[index]) visit(lecture.experiments[index].link, { lecture: "1", experiment: `${index + 1}` });
  }

  /** @type {(link: string, more?: Record<string, string>) => void} */
  function visit(link, more = page.classList.contains("lecture") ? { lecture: "1" } : {}) {
    const target = new URL(root + link);
    for (const [name, value] of Object.entries(more)) target.searchParams.set(name, value);
    window.location.assign(target);
  }

  function enter(on) {
    page.classList.toggle("lecture", on);
    page.classList.toggle("led", on && at >= 0);
    const address = new URL(window.location.href);
    if (on) address.searchParams.set("lecture", "1");
    else for (const name of ["lecture", "experiment"]) address.searchParams.delete(name);
    replaceAddress(address);
    describe();
    window.dispatchEvent(new Event("resize")); // the plots have another size now
  }

  function describe() {
    const one = lecture?.experiments[at];
    $(".place").textContent = one ? `${at + 1} / ${lecture.experiments.length}` : lecture ? lecture.title : "";
    $(".title").textContent = one?.title ?? "";
    $(".text").textContent = one?.text ?? "";
    [$(".previous").disabled, $(".next").disabled] = [Boolean(lecture) && at < 1, Boolean(lecture) && at + 1 >= lecture.experiments.length];
  }

  function say(sentence) {
    $(".said").textContent = sentence;
    $(".said").hidden = false;
  }

  // --- for the students ----------------------------------------------------------------------------------------------

  // The address without what is the lecture's own and what is as it would be anyway.
  function studentsLink() {
    const address = new URL(window.location.href), defaults = setup.pages[here];
    for (const [name, value] of [...address.searchParams]) {
      if (OWN.includes(name) || name.startsWith("__") || defaults[name] === value) address.searchParams.delete(name);
    }
    return address.href;
  }

  function showCode() {
    const link = studentsLink(), long = link.length > setup.mostLink, own = ["localhost", "127.0.0.1", "[::1]"].includes(window.location.hostname);
    $(".link").textContent = $(".link").href = link;
    $(".students img").hidden = long;
    if (!long) $(".students img").src = `${root}/qr?link=${encodeURIComponent(link)}`;
    [$(".copy").textContent, $(".uncopied").hidden] = ["Copy the link", true];
    $(".instead").hidden = !long && !own;
    $(".instead").textContent = long ? `The link has ${link.length.toLocaleString("en")} characters, too many for a QR code: send it instead.`
      : own ? "This address works on this computer only: open the app under an address that the class can reach." : "";
    $(".students").showModal();
  }

  // As browsers copied before there was a clipboard for pages, which plain http does not have, and a frame may not use.
  async function copyOld(text) {
    const field = Object.assign(document.createElement("textarea"), { value: text }), focused = /** @type {HTMLElement} */ (document.activeElement);
    field.style.cssText = "position: fixed; opacity: 0";
    ($("dialog[open]") ?? document.body).append(field); // what is outside an open dialog cannot be selected
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    focused?.focus();
    if (!copied) throw new Error("The browser does not let the page copy.");
  }

  if (!navigator.clipboard) Object.defineProperty(navigator, "clipboard", { value: { writeText: copyOld } }); // the program's button uses it

  async function copyLink() {
    const link = $(".link");
    try {
      await navigator.clipboard.writeText(link.href).catch(() => copyOld(link.href));
      $(".copy").textContent = "Copied";
    } catch {
      window.getSelection().selectAllChildren(link);
      $(".uncopied").hidden = false;
    }
  }

  // --- controls ----------------------------------------------------------------------------------------------------

  const press = (selector) => () => find(selector)?.click();
  const toggle = (dialog, open) => () => { if (dialog.open) dialog.close(); else open(); };
  const toPlayer = (key) => () => {
    const slider = find('#t input[type="range"]'), by = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (!slider) find(".player").dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
    else if (by) { // a page without a run in time
      slider.value = Number(slider.value) + by * Math.max(1, Math.round(slider.max / 50));
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };
  const KEYS = {
    " ": toPlayer(" "), arrowleft: toPlayer("ArrowLeft"), arrowright: toPlayer("ArrowRight"), r: toPlayer("r"),
    g: press("#generate, #train"), d: press("#dice"), n: () => step(1), p: () => step(-1), pagedown: () => step(1), pageup: () => step(-1),
    q: toggle($(".students"), showCode), "?": toggle($(".keys"), () => $(".keys").showModal()), o: () => $(".file").click(), l: () => enter(false),
  };

  // A field that is being typed into keeps its keys, and a control those that move it.
  function taken({ target, key }) {
    if (target.closest("textarea, select, [contenteditable], .cm-editor, [role=listbox]")) return true;
    if (target.tagName !== "INPUT") return key === " " && target.closest("a, button, summary");
    return !["range", "radio", "checkbox", "file"].includes(target.type) || [" ", "ArrowLeft", "ArrowRight"].includes(key);
  }

  function onKey(event) {
    if (!element.isConnected) return document.removeEventListener("keydown", onKey);
    const action = KEYS[event.key.toLowerCase()], dialog = element.querySelector("dialog[open]");
    if (!page.classList.contains("lecture") || !action || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || taken(event)) return;
    if (dialog && !["q", "?"].includes(event.key.toLowerCase())) return;
    event.preventDefault();
    action();
  }

  document.addEventListener("keydown", onKey);
  $(".enter").addEventListener("click", () => enter(true));
  $(".leave").addEventListener("click", () => enter(false));
  $(".previous").addEventListener("click", () => step(-1));
  $(".next").addEventListener("click", () => step(1));
  $(".show-code").addEventListener("click", showCode);
  $(".show-keys").addEventListener("click", () => $(".keys").showModal());
  $(".copy").addEventListener("click", copyLink);
  element.querySelectorAll(".close").forEach((button) => button.addEventListener("click", () => button.closest("dialog").close()));
  element.querySelectorAll(".open").forEach((button) => button.addEventListener("click", () => $(".file").click()));
  const readChosen = () => {
    if ($(".file").files[0]) read($(".file").files[0]);
    $(".file").value = "";
  };
  $(".file").addEventListener("change", readChosen);
  document.addEventListener("dragover", (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (event.defaultPrevented || !file) return;
    event.preventDefault();
    read(file);
  });
  describe();
  readChosen(); // before this script had come
  if (asked.get("lecture") === "1") enter(true); else tellParent();
}
