// Grad-CAM maps: enlarge and paint them.

// Enlarge as `grad_cam` does: bilinear between the pixels' centres, then scale the minimum to 0, the maximum to 1.
function enlarge(map, w, h, width, height) {
  const columns = neighbours(w, width);
  const values = neighbours(h, height).flatMap(([top, bottom, y]) =>
    columns.map(([left, right, x]) => {
      const row = (at) => map[at * w + left] * (1 - x) + map[at * w + right] * x;
      return row(top) * (1 - y) + row(bottom) * y;
    }));
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  return values.map((value) => (high > low ? (value - low) / (high - low) : 0));
}

// For each of `to` pixels: the two neighbours among `from` pixels, and the weight of the second.
function neighbours(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const at = Math.max(0, ((i + 0.5) * from) / to - 0.5);
    const first = Math.floor(at);
    return [first, Math.min(first + 1, from - 1), at - first];
  });
}

// Paint `values`, from 0 to 1, in the colours of `palette`: 256 x RGBA.
function paint(canvas, values, width, height, palette) {
  Object.assign(canvas, { width, height });
  const pixels = new ImageData(width, height);
  values.forEach((value, i) => {
    const colour = 4 * Math.round(255 * value);
    pixels.data.set(palette.subarray(colour, colour + 4), 4 * i);
  });
  canvas.getContext('2d').putImageData(pixels, 0, 0);
}
