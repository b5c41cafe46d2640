// What the pages on the plane draw with, on a canvas and as Plotly traces: points, lines and the arrows of a field.
export function broken(lines) {
  return { x: lines.flatMap(([x, , u]) => [x, u, null]), y: lines.flatMap(([, y, , v]) => [y, v, null]) };
}

export function headed([x, y, u, v]) {
  const [dx, dy] = [u - x, v - y];
  return [[x, y, u, v], [u - 0.35 * dx - 0.22 * dy, v - 0.35 * dy + 0.22 * dx, u, v], [u - 0.35 * dx + 0.22 * dy, v - 0.35 * dy - 0.22 * dx, u, v]];
}

export function paintArrows(over, toX, toY, lines, colour, width) {
  over.strokeStyle = colour;
  over.lineWidth = width;
  over.beginPath();
  for (const [x, y, u, v] of lines) {
    const [from, to] = [[toX(x), toY(y)], [toX(u), toY(v)]], [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    over.moveTo(...from);
    over.lineTo(...to);
    over.moveTo(to[0] - 0.35 * dx - 0.22 * dy, to[1] - 0.35 * dy + 0.22 * dx);
    over.lineTo(...to);
    over.lineTo(to[0] - 0.35 * dx + 0.22 * dy, to[1] - 0.35 * dy - 0.22 * dx);
  }
  over.stroke();
}

export function drawing(setup) {
  const rows = setup.fieldAxis.length, arrows = rows * rows, spacing = setup.fieldAxis[1] - setup.fieldAxis[0];

  const at = (values, i) => values[i] / setup.scale;

  function lengths(field) {
    return Float32Array.from({ length: arrows }, (_, k) => Math.hypot(field[2 * k], field[2 * k + 1]));
  }

  // Line segments of the arrows, [x, y, tip x, tip y] each, in the units of the axes.
  function segments(field, longest) {
    return Array.from({ length: arrows }, (_, k) => {
      const [x, y] = [setup.fieldAxis[k % rows], setup.fieldAxis[Math.floor(k / rows)]], [u, v] = [field[2 * k], field[2 * k + 1]];
      const size = Math.hypot(u, v), length = 0.95 * spacing * Math.sqrt(Math.min(size / longest, 1)) / (size || 1);
      return [x - (u * length) / 2, y - (v * length) / 2, x + (u * length) / 2, y + (v * length) / 2];
    });
  }

  function paintPoints(over, toX, toY, points, radius, colour, opacity) {
    over.fillStyle = colour;
    over.globalAlpha = opacity;
    for (let i = 0; i < points.length; i += 2) { // a path each: one path of a thousand circles takes four times as long
      over.beginPath();
      over.arc(toX(at(points, i)), toY(at(points, i + 1)), radius, 0, 6.3);
      over.fill();
    }
    over.globalAlpha = 1;
  }

  function points(values) {
    const pick = (from) => Array.from({ length: values.length / 2 }, (_, i) => at(values, 2 * i + from));
    return { x: pick(0), y: pick(1) };
  }

  return { rows, arrows, spacing, at, lengths, segments, paintPoints, points };
}
