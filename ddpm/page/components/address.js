// The page's address, which the scripts of a lesson and of lecture mode change. Comes before either.
const HUB = "https://huggingface.co"; // which shows a Space in a frame, and does not see that the address there changes
const inHub = window.parent !== window && (window.location.ancestorOrigins?.[0] ?? HUB) === HUB; // Firefox does not say whose

function replaceAddress(address) {
  window.history.replaceState(window.history.state, "", address);
  tellParent();
}

// Has the address around the frame follow: https://huggingface.co/docs/hub/spaces-handle-url-parameters. A Space's frame
// opens with the first page, so the lesson is in the hash. Names with __ are Gradio's and the Hub's own, one a secret.
function tellParent() {
  if (!inHub) return;
  const own = [...new URL(window.location).searchParams].filter(([name]) => !name.startsWith("__"));
  const lesson = window.gradio_config.current_page;
  window.parent.postMessage({ queryString: new URLSearchParams(own).toString(), hash: lesson ? `#/${lesson}` : "" }, HUB);
}

