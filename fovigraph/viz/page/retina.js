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

function addPixel({ width, height, pixels }, row, column, weight, out, at) {
  if (row < 0 || row >= height || column < 0 || column >= width) return;
  const from = 4 * (row * width + column);
  for (let c = 0; c < 3; c++) out[at + c] += weight * pixels[from + c];
}

function addInterpolated(image, row, column, weight, out, at) {
  const top = Math.floor(row),
    left = Math.floor(column);
  const down = weight * (row - top),
    up = weight - down,
    right = column - left;
  addPixel(image, top, left, up * (1 - right), out, at);
  addPixel(image, top, left + 1, up * right, out, at);
  addPixel(image, top + 1, left, down * (1 - right), out, at);
  addPixel(image, top + 1, left + 1, down * right, out, at);
}

/** An image of half the size, rounded up, each pixel the mean of four, black ones beyond it. */
function halved({ width, height, pixels }) {
  const across = Math.ceil(width / 2),
    half = { width: across, height: Math.ceil(height / 2) };
  half.pixels = new Float32Array(4 * across * half.height);
  for (let row = 0, from = 0; row < height; row++)
    for (let column = 0; column < width; column++, from += 4) {
      const to = 4 * ((row >> 1) * across + (column >> 1));
      for (let c = 0; c < 3; c++) half.pixels[to + c] += pixels[from + c] / 4;
    }
  return half;
}

/** A photograph at full, 1/2, 1/4, … of the size that is held, made when first sampled. */
function mipmap(photo) {
  if (!photo.mipmap) {
    photo.mipmap = [photo.held];
    const { width, height } = photo.held,
      top = Math.max(1, Math.ceil(Math.log2(Math.max(width, height))));
    for (let i = 0; i < top; i++) photo.mipmap.push(halved(photo.mipmap[i]));
  }
  return photo.mipmap;
}

/** Ways to take what is at a place; side: of the node's cell, in held pixels. */
const take = {
  nearest({ held }, row, column, side, out, at) {
    addPixel(held, rounded(row), rounded(column), 1, out, at);
  },
  bilinear({ held }, row, column, side, out, at) {
    addInterpolated(held, row, column, 1, out, at);
  },
  /** The mean over the cell: between the two levels whose pixels are nearest to it in size. */
  area(photo, row, column, side, out, at) {
    const images = mipmap(photo),
      top = images.length - 1;
    const level = Math.min(top, Math.max(0, Math.log2(side / retina.cellPerPixel))),
      fine = Math.min(top - 1, Math.floor(level));
    for (const [index, weight] of [
      [fine, 1 - (level - fine)],
      [fine + 1, level - fine],
    ]) {
      const place = (value) => (value + 0.5) / 2 ** index - 0.5;
      addInterpolated(images[index], place(row), place(column), weight, out, at);
    }
  },
};

/** What the receptors take of a photograph, [M · 3], 0 to 255, black outside it. */
function received(photo, gaze) {
  const { places, sampling, cells } = retina,
    out = new Float32Array((3 * places.length) / 2),
    middleRow = single(single(gaze.row) * photo.height),
    middleColumn = single(single(gaze.column) * photo.width),
    halfHeight = single(gaze.height) / 2,
    halfWidth = single(gaze.width) / 2,
    share = Math.sqrt((photo.held.height / photo.height) * (photo.held.width / photo.width)),
    side = Math.sqrt(gaze.height * gaze.width) * share; // of the view, in held pixels
  for (let i = 0; i < places.length / 2; i++) {
    const [x, y] = [places[2 * i], places[2 * i + 1]];
    const row = pixelAt(y, middleRow, -halfHeight, photo.height, photo.held.height);
    const column = pixelAt(x, middleColumn, halfWidth, photo.width, photo.held.width);
    take[sampling](photo, row, column, cells && side * cells[i], out, 3 * i);
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
