// The picker: one of the examples of a sheet, a row of radio buttons a class with the arrow keys between them.
export function mount({ element, props, trigger, watch }) {
  const setup = JSON.parse(props.setup);
  const picker = element.querySelector(".picker");
  const cells = Array.from({ length: setup.rows * setup.columns }, (_, i) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.setAttribute("role", "radio");
    button.addEventListener("click", () => choose(i));
    return button;
  });
  picker.style.gridTemplateColumns = `repeat(${setup.columns}, 1fr)`;
  picker.append(...cells);

  function choose(i) {
    props.value = String(i);
    show();
    cells[i].focus({ preventScroll: true });
    trigger("change");
    trigger("input");
  }

  function show() {
    picker.style.display = props.sheet ? "" : "none";
    if (!props.sheet) return;
    const { address, names } = setup.sheets[props.sheet], chosen = Number(props.value);
    cells.forEach((cell, i) => {
      const [column, row] = [i % setup.columns, Math.floor(i / setup.columns)];
      cell.style.backgroundImage = `url("${address}")`;
      cell.style.backgroundSize = `${100 * setup.columns}% ${100 * setup.rows}%`;
      cell.style.backgroundPosition = `${(100 * column) / (setup.columns - 1)}% ${(100 * row) / (setup.rows - 1)}%`;
      cell.setAttribute("aria-label", `${names[column]}, example ${row + 1}`);
      cell.setAttribute("aria-checked", String(i === chosen));
      cell.tabIndex = i === chosen ? 0 : -1;
    });
  }

  picker.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -setup.columns, ArrowDown: setup.columns }[event.key];
    if (!by) return;
    event.preventDefault();
    choose((Number(props.value) + by + cells.length) % cells.length);
  });
  watch(["value", "sheet"], show);
  show();
}
