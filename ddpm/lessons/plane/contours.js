// Values on a grid of cells: blurred, and their contours.
// The values on so many cells a side, each spread along its row (stride 1) or its column (stride cells) as the kernel says.
export function blur(values, kernel, stride, cells) {
  const result = new Float32Array(values.length), reach = (kernel.length - 1) / 2;
  for (let i = 0; i < values.length; i++) {
    if (!values[i]) continue;
    const place = stride === 1 ? i % cells : Math.floor(i / cells);
    for (let k = Math.max(-reach, -place); k <= Math.min(reach, cells - 1 - place); k++) result[i + k * stride] += kernel[k + reach] * values[i];
  }
  return result;
}

const LEVELS = [0.1, 0.3, 0.6];

// Segments [x, y, x, y] of the contours of `values` (0 … 1 on the cells, whose middles are at `axis` × `axis`) by marching squares.
export function contours(values, axis, levels = LEVELS) {
  const lines = [], cells = axis.length, cell = axis[1] - axis[0];
  for (const level of levels) {
    for (let row = 0; row < cells - 1; row++) {
      for (let column = 0; column < cells - 1; column++) {
        const i = row * cells + column, corners = [values[i], values[i + 1], values[i + cells + 1], values[i + cells]];
        const crossings = [];
        for (let side = 0; side < 4; side++) {
          const [a, b] = [corners[side], corners[(side + 1) % 4]];
          if (a < level === b < level) continue;
          const part = (level - a) / (b - a), [dx, dy] = [[part, 0], [1, part], [1 - part, 1], [0, 1 - part]][side];
          crossings.push(axis[column] + dx * cell, axis[row] + dy * cell);
        }
        for (let k = 0; k + 3 < crossings.length; k += 4) lines.push(crossings.slice(k, k + 4));
      }
    }
  }
  return lines;
}
