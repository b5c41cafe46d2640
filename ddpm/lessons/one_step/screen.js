// The few steps lesson's screen: a row of digits for each way, in the order in which they are computed.
import { writeAddress } from "../../page/components/address.js";
import { parse, stage } from "../../page/components/shared.js";
import { paintPicture, pictures } from "../../page/components/tiles.js";

export function mount(gradio) {
  const { $, setup, player, listen, notify } = stage(gradio);
  const ways = $(".ways");
  let begun = null;

  function receive(message) {
    const [header, bytes] = parse(message);
    if (header.kind === "start") start(header);
    else if (header.job !== begun?.job) return; // late, of an answer that has been replaced
    else if (header.kind === "row") show(header, bytes);
    else if (header.kind === "waiting") notify([...begun.notes, header.note]);
    else if (header.kind === "end") end(header);
  }

  function start(header) {
    begun = header;
    notify(header.notes);
    writeAddress(header.query);
    player.dataset.state = "computing";
  }

  function show({ place, seconds }, bytes) {
    const line = ways.children[place], { steps, guidance } = setup.ways[place], asked = steps * (guidance ? 2 : 1);
    line.querySelector(".cost").textContent = `· the network asked ${asked === 1 ? "once" : `${asked} times`} a picture, ${seconds.toFixed(2)} s`;
    line.querySelector(".drawn").replaceChildren(...pictures(bytes, setup.shape).map((picture) => {
      const canvas = document.createElement("canvas");
      paintPicture(canvas, picture, setup.shape);
      return canvas;
    }));
  }

  function end(header) {
    if (header.problem) notify([...begun.notes, header.problem]);
    player.dataset.state = header.problem ? "failed" : "finished";
    player.dataset.plots = "ready";
    $(".heard").textContent = header.problem ? "" : "All rows are drawn.";
  }

  for (const { student, steps, guidance } of setup.ways) {
    const line = ways.appendChild(Object.assign(document.createElement("div"), { className: `way${student ? " student" : ""}` }));
    const who = student ? "The student" : "The network", many = steps === 1 ? "one step" : `${steps} steps`;
    line.innerHTML = `<b>${who} in ${many}</b>${guidance ? `, with guidance w = ${guidance}` : ""} <span class="cost"></span><div class="drawn" role="img" aria-label="ten digits"></div>`;
  }

  listen(receive);
}
