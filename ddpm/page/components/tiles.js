// Pictures of one shape on canvases: bytes (C, H, W), a canvas each.
export function paintPicture(canvas, bytes, [channels, height, width]) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const image = new ImageData(width, height), size = height * width;
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes[i + (channels === 3 ? c * size : 0)];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// The pictures in bytes (N, C, H, W).
export function pictures(bytes, shape) {
  const size = shape[0] * shape[1] * shape[2];
  return Array.from({ length: bytes.length / size }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}
