// The link to the settings of a page.
export function mount({ element }) {
  element.querySelector("a").addEventListener("click", (event) => {
    event.preventDefault(); // the page's base address would make it another page
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    document.querySelector("#settings").scrollIntoView({ behavior: still ? "auto" : "smooth" });
  });
}
