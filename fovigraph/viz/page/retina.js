// ---- the retina ---------------------------------------------------------------------------------
// As fovigraph.Retina samples, and in single precision, step by step as it rounds, so that both take
// the same pixels.

const single = Math.fround;

/**
 * Where a place falls along one side of a photograph, in held pixels, 0 in the middle of the first.
 *
 * center: of the view, in the photograph's own pixels; half: half the view's size, negative if the
 * place counts upwards; extent: the photograph's size; held: how many pixels of it are held.
 */
function pixelAt(place, center, half, extent, held) {
  const at = single(center + single(half * place));
  const normal = single(single(single(2 * at) / extent) - 1);
  return single(single(single(normal + 1) * (held / 2)) - 0.5);
}

/** The nearest whole number, the even one of two. */
function rounded(value) {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 ? up - 1 : up;
}

function addPixel(photo, row, column, weight, out, at) {
  if (row < 0 || row >= photo.held.height || column < 0 || column >= photo.held.width) return;
  const from = 4 * (row * photo.held.width + column);
  for (let c = 0; c < 3; c++) out[at + c] += weight * photo.pixels[from + c];
}

const take = {
  nearest(photo, row, column, out, at) {
    addPixel(photo, rounded(row), rounded(column), 1, out, at);
  },
  bilinear(photo, row, column, out, at) {
    const top = Math.floor(row),
      left = Math.floor(column);
    const down = row - top,
      right = column - left;
    addPixel(photo, top, left, (1 - down) * (1 - right), out, at);
    addPixel(photo, top, left + 1, (1 - down) * right, out, at);
    addPixel(photo, top + 1, left, down * (1 - right), out, at);
    addPixel(photo, top + 1, left + 1, down * right, out, at);
  },
};

/** What the receptors take of a photograph, [M · 3], 0 to 255, black outside it. */
function received(photo, gaze) {
  const { places, sampling } = retina,
    out = new Float32Array((3 * places.length) / 2),
    middleRow = single(single(gaze.row) * photo.height),
    middleColumn = single(single(gaze.column) * photo.width),
    halfHeight = single(gaze.height) / 2,
    halfWidth = single(gaze.width) / 2;
  for (let i = 0; i < places.length / 2; i++) {
    const [x, y] = [places[2 * i], places[2 * i + 1]];
    const row = pixelAt(y, middleRow, -halfHeight, photo.height, photo.held.height);
    const column = pixelAt(x, middleColumn, halfWidth, photo.width, photo.held.width);
    take[sampling](photo, row, column, out, 3 * i);
  }
  return out;
}

/** Weighted sums over what leads to every node. */
function pooled({ ptr, src, weight }, values) {
  const out = new Float32Array(3 * (ptr.length - 1));
  for (let dst = 0; dst < ptr.length - 1; dst++)
    for (let e = ptr[dst]; e < ptr[dst + 1]; e++)
      for (let c = 0; c < 3; c++) out[3 * dst + c] += weight[e] * values[3 * src[e] + c];
  return out;
}

/** Blend colours into their luminance, the more the less saturation is left. */
function fade(colors, saturation) {
  const [red, green, blue] = retina.luminance;
  for (let i = 0; i < saturation.length; i++) {
    const grey = red * colors[3 * i] + green * colors[3 * i + 1] + blue * colors[3 * i + 2];
    for (let c = 3 * i; c < 3 * i + 3; c++) colors[c] = grey + saturation[i] * (colors[c] - grey);
  }
}

/** The colours that the retina samples of a photograph at a gaze, [N · 3], 0 to 255. */
function sampled(photo, gaze) {
  const values = received(photo, gaze);
  const colors = retina.pool ? pooled(retina.pool, values) : values;
  if (retina.saturation) fade(colors, retina.saturation);
  return new Uint8ClampedArray(colors); // which rounds
}
