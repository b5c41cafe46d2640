// The page's address, which the scripts of a lesson and of lecture mode change.
const HUB = "https://huggingface.co"; // which shows a Space in a frame, and does not see that the address there changes
const inHub = window.parent !== window && (window.location.ancestorOrigins?.[0] ?? HUB) === HUB; // Firefox does not say whose

export function replaceAddress(address) {
  window.history.replaceState(window.history.state, "", address);
  tellParent();
}

export function writeAddress(query) {
  const address = new URL(window.location.href);
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
  replaceAddress(address);
}

// Has the address around the frame follow: https://huggingface.co/docs/hub/spaces-handle-url-parameters. A Space's frame
// opens with the first page, so the lesson is in the hash. Names with __ are Gradio's and the Hub's own, one a secret.
export function tellParent() {
  if (!inHub) return;
  const own = [...new URL(window.location.href).searchParams].filter(([name]) => !name.startsWith("__"));
  const lesson = window.gradio_config.current_page;
  window.parent.postMessage({ queryString: new URLSearchParams(own).toString(), hash: lesson ? `#/${lesson}` : "" }, HUB);
}

