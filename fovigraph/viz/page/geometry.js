// ---- geometry -----------------------------------------------------------------------------------

function line(curve) {
  const path = new Path2D();
  for (let i = 0; i < curve.length; i += 2) path.lineTo(curve[i], curve[i + 1]);
  return path;
}

function polygon(curve) {
  const path = line(curve);
  path.closePath();
  return path;
}

function circle(radius, x = 0, y = 0) {
  const path = new Path2D();
  path.arc(x, y, radius, 0, 2 * Math.PI);
  return path;
}

const curvesOf = (curves) => curves.map((curve) => decode(curve, Float32Array));
const outlines = { visual: curvesOf(data.outlines.visual), cortical: curvesOf(data.outlines.cortical) };
const edges = { visual: new Path2D(), cortical: new Path2D() };
for (const [space, curves] of Object.entries(outlines))
  curves.forEach((curve) => edges[space].addPath(polygon(curve)));
const fieldOfView = polygon(decode(data.fieldOfView, Float32Array));

/** Circles of equal eccentricity: their paths in each space, and where to write how large. */
const rings = data.rings.map(({ degrees, curves, at }) => ({
  degrees,
  paths: { visual: [circle(degrees)], cortical: curvesOf(curves).map(line) },
  at: { visual: [0, degrees], cortical: at },
}));

/** The middle of a space, and how far it reaches from there to the sides and up. */
const boxes = { visual: boxOf(outlines.visual), cortical: boxOf(outlines.cortical) };

function boxOf(curves) {
  const ends = [0, 1].map((axis) => {
    const along = curves.flatMap((curve) => [...curve].filter((_, i) => i % 2 === axis));
    return [Math.min(...along), Math.max(...along)];
  });
  return {
    middle: ends.map(([low, high]) => (low + high) / 2),
    reach: ends.map(([low, high]) => (high - low) / 2),
  };
}

/** A level's cells in a space, made when first drawn: one for each of `units`, or for every unit. */
function frameOf(level, space) {
  const { frames, places, units } = levels[level];
  if (!frames[space]) {
    const all = places[space];
    const drawn = units ? [...units].flatMap((i) => [all[2 * i], all[2 * i + 1]]) : all;
    const delaunay = new d3.Delaunay(Float64Array.from(drawn));
    const { middle, reach } = boxes[space],
      far = 3 * Math.max(...reach),
      [x, y] = middle;
    const voronoi = delaunay.voronoi([x - far, y - far, x + far, y + far]);
    frames[space] = { delaunay, voronoi, far, units };
  }
  return frames[space];
}

/** The unit that a cell of a frame is of, and the cell of a unit. */
const unitOf = ({ units }, cell) => (units ? units[cell] : cell);
const cellOf = ({ units }, unit) => (units ? units.indexOf(unit) : unit);

/** The unit of a level that is nearest to a place. */
function nearestUnit(level, space, x, y) {
  const frame = frameOf(level, space);
  return unitOf(frame, frame.delaunay.find(x, y));
}

/** The line between units of a level that are lit and units that are not, as long as they are. */
function border(level, space) {
  const frame = frameOf(level, space),
    lit = state.field[level];
  if (frame.lit !== lit) Object.assign(frame, { lit, border: borderOf(frame, lit) });
  return frame.border;
}

function borderOf(frame, weight) {
  const { delaunay, voronoi, far, units } = frame,
    lit = units ? Float64Array.from(units, (unit) => weight[unit]) : weight;
  const { halfedges, triangles, hull, inedges } = delaunay,
    { circumcenters, vectors } = voronoi;
  const path = new Path2D();
  for (let i = 0; i < halfedges.length; i++) {
    const j = halfedges[i];
    if (j < i || !lit[triangles[i]] === !lit[triangles[j]]) continue;
    const from = 2 * Math.floor(i / 3),
      to = 2 * Math.floor(j / 3);
    path.moveTo(circumcenters[from], circumcenters[from + 1]);
    path.lineTo(circumcenters[to], circumcenters[to + 1]);
  }
  if (halfedges.length)
    hull.forEach((unit, i) => {
      // outwards, between outermost units
      const last = hull[(i || hull.length) - 1],
        [x, y] = vectors.subarray(4 * last + 2, 4 * last + 4);
      if (!lit[last] === !lit[unit]) return;
      const from = 2 * Math.floor(inedges[unit] / 3),
        beyond = far / Math.hypot(x, y);
      path.moveTo(circumcenters[from], circumcenters[from + 1]);
      path.lineTo(circumcenters[from] + beyond * x, circumcenters[from + 1] + beyond * y);
    });
  return path;
}

/** A picture that gives every unit's cell a colour of its own, quickly. */
class Raster {
  /** Of that size in pixels, around a place, in steps of the space's unit. */
  constructor(width, height, step, frame, [middleX, middleY]) {
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d");
    this.pixels = this.context.createImageData(width, height);
    this.words = new Uint32Array(this.pixels.data.buffer);
    this.units = new Int32Array(width * height);
    for (let j = 0, near = 0; j < height; j++) {
      const y = middleY + (height / 2 - j - 0.5) * step;
      for (let i = 0; i < width; i++) {
        const x = middleX + (i + 0.5 - width / 2) * step;
        near = frame.delaunay.find(x, y, near);
        this.units[j * width + i] = unitOf(frame, near);
      }
    }
  }

  /** Return the canvas, painted in colours [N] as 0xAABBGGRR. */
  paint(colors) {
    const { words, units } = this;
    for (let i = 0; i < words.length; i++) words[i] = colors[units[i]];
    this.context.putImageData(this.pixels, 0, 0);
    return this.canvas;
  }
}
