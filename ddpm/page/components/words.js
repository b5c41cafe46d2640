// Numbers and colours in words, and back.
export function percent(share) {
  const digits = share > 0 && share < 0.001 ? 4 : share < 0.1 || (share > 0.99 && share < 1) ? 2 : 0;
  return `${(100 * share).toFixed(digits)} %`;
}

// A number for people: a true minus, none before nothing.
export const signed = (value, digits = 2) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");

// "1.2e-7" as 1.2 · 10⁻⁷.
export const scientific = (text) => text.replace(/e\+?(.*)/, (_, power) => ` · 10${[...power].map((digit) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(digit)]).join("")}`);

export const number = (value) => scientific(value.toPrecision(2).replace(/\.?0+$/, (zeros) => (zeros[0] === "." ? "" : zeros)));

export const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
