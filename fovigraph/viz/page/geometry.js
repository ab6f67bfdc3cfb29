// ---- geometry -----------------------------------------------------------------------------------

function polygon(curve) {
  const path = new Path2D();
  for (let i = 0; i < curve.length; i += 2) path.lineTo(curve[i], curve[i + 1]);
  path.closePath();
  return path;
}

function circle(radius, x = 0, y = 0) {
  const path = new Path2D();
  path.arc(x, y, radius, 0, 2 * Math.PI);
  return path;
}

const outlines = data.outlines.map((curve) => decode(curve, Float32Array));
const edges = { visual: circle(data.edge), cortical: new Path2D() };
outlines.forEach((curve) => edges.cortical.addPath(polygon(curve)));

/** Circles of equal eccentricity: their paths in each space, and where to write how large. */
const rings = data.rings.map(({ degrees, curves }) => {
  const flat = curves.map((curve) => decode(curve, Float32Array));
  return {
    degrees,
    paths: { visual: [circle(degrees)], cortical: flat.map(polygon) },
    at: { visual: [0, degrees], cortical: [flat[0][2 * Math.floor(flat[0].length / 4)], 0] },
  };
});

/** How far a space reaches to the sides and up. */
const reach = { visual: [data.edge, data.edge], cortical: [0, 0] };
for (const curve of outlines)
  curve.forEach((value, i) => {
    reach.cortical[i % 2] = Math.max(reach.cortical[i % 2], Math.abs(value));
  });

/** A level's cells in a space, made when first drawn. */
function frameOf(level, space) {
  const { frames, places } = levels[level];
  if (!frames[space]) {
    const delaunay = new d3.Delaunay(Float64Array.from(places[space]));
    const far = 2 * Math.max(...reach[space]);
    frames[space] = { delaunay, voronoi: delaunay.voronoi([-far, -far, far, far]) };
  }
  return frames[space];
}

/** The line between units of a level that are lit and units that are not, as long as they are. */
function border(level, space) {
  const frame = frameOf(level, space),
    lit = state.field[level];
  if (frame.lit !== lit) Object.assign(frame, { lit, border: borderOf(frame, lit) });
  return frame.border;
}

function borderOf({ delaunay, voronoi }, lit) {
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
        far = voronoi.xmax / Math.hypot(x, y);
      path.moveTo(circumcenters[from], circumcenters[from + 1]);
      path.lineTo(circumcenters[from] + far * x, circumcenters[from + 1] + far * y);
    });
  return path;
}

/** A picture that gives every unit's cell a colour of its own, quickly. */
class Raster {
  /** Of that size in pixels, around (0, 0), in steps of the space's unit; empty beyond `edge`. */
  constructor(width, height, step, { delaunay }, edge) {
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d");
    this.pixels = this.context.createImageData(width, height);
    this.words = new Uint32Array(this.pixels.data.buffer);
    this.units = new Int32Array(width * height).fill(-1);
    for (let j = 0, near = 0; j < height; j++) {
      const y = (height / 2 - j - 0.5) * step;
      for (let i = 0; i < width; i++) {
        const x = (i + 0.5 - width / 2) * step;
        if (x * x + y * y > edge * edge) continue;
        this.units[j * width + i] = near = delaunay.find(x, y, near);
      }
    }
  }

  /** Return the canvas, painted in colours [N] as 0xAABBGGRR. */
  paint(colors) {
    const { words, units } = this;
    for (let i = 0; i < words.length; i++) words[i] = units[i] < 0 ? 0 : colors[units[i]];
    this.context.putImageData(this.pixels, 0, 0);
    return this.canvas;
  }
}
