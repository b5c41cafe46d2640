// Draws ``count`` pictures, whose values are a function of an index into them: black at −range, white at range, in
// so many columns.
export function paintPictures(canvas, value, count, [channels, height, width], columns, range = 1) {
  const across = Math.min(columns, count), down = Math.ceil(count / across);
  const [w, h] = [across * (width + 1) - 1, down * (height + 1) - 1];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const image = new ImageData(w, h);
  for (let i = 0; i < count; i++) {
    const top = Math.floor(i / across) * (height + 1), left = (i % across) * (width + 1);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const to = 4 * ((top + row) * w + left + column), from = i * channels * height * width + row * width + column;
        for (let c = 0; c < 3; c++) {
          image.data[to + c] = (value(from + (channels === 3 ? c * height * width : 0)) / range + 1) * 127.5;
        }
        image.data[to + 3] = 255;
      }
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
