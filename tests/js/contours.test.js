// Contours on the plane's grid.
import assert from "node:assert/strict";
import { test } from "node:test";
import { blur, contours } from "../../ddpm/lessons/plane/contours.js";

const axis = Array.from({ length: 41 }, (_, i) => (i - 20) / 10), cells = axis.length;
const grid = (of) => Float32Array.from({ length: cells * cells }, (_, i) => of(axis[i % cells], axis[Math.floor(i / cells)]));

test("the contours of a cone are circles", () => {
  for (const level of [0.3, 0.6]) {
    const lines = contours(grid((x, y) => 1 - Math.hypot(x, y) / 2), axis, [level]);
    assert.ok(lines.length > 40);
    for (const [x, y, u, v] of lines) {
      for (const radius of [Math.hypot(x, y), Math.hypot(u, v)]) assert.ok(Math.abs(radius - 2 * (1 - level)) < 0.01, `${radius}`);
    }
  }
});

test("the contours of a slope are straight lines at its levels, and where it reaches none there are none", () => {
  const lines = contours(grid((x) => (x + 2.02) / 4), axis);
  assert.equal(lines.length, 3 * (cells - 1));
  for (const [x, , u] of lines) {
    assert.ok(Math.abs(x - u) < 1e-6 && [-1.62, -0.82, 0.38].some((place) => Math.abs(x - place) < 1e-5), `${x}`);
  }
  assert.deepEqual(contours(grid(() => 0.05), axis), []);
});

test("a blur keeps the sum of what is far from the edge, and is the same along rows and columns", () => {
  const values = grid((x, y) => Number(x === 0 && y === 0)), kernel = [0.25, 0.5, 0.25];
  const [across, down] = [blur(values, kernel, 1, cells), blur(values, kernel, cells, cells)];
  assert.equal(across.reduce((a, b) => a + b), 1);
  across.forEach((value, i) => assert.equal(value, down[(i % cells) * cells + Math.floor(i / cells)]));
});
