"use strict";
// A pyramid's units, drawn level by level; the fields of one of them, lit. All that is shown is
// computed here from the graphs' edges. Places are degrees in the visual field, millimetres on the
// flat cortex, x to the right and y up.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const UNIT_COLOR = "#d5007f",
  GAZE_COLOR = "#ff9d2e",
  MOST_LINES = 300;

function decode(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

const graphs = data.graphs.map((graph) => ({
  ...graph,
  ptr: decode(graph.ptr, Uint32Array),
  src: decode(graph.src, data.wide ? Uint32Array : Uint16Array),
}));
const levels = data.levels.map((level) => {
  const visual = decode(level.visual, Float32Array);
  return {
    name: level.name,
    count: visual.length / 2,
    places: { visual, cortical: decode(level.cortical, Float32Array) },
    frames: {},
  };
});
const looks = data.looks.map((look) => ({ ...look, samples: decode(look.samples, Uint8Array) }));
const outlines = data.outlines.map((curve) => decode(curve, Float32Array));
const rings = data.rings.map((ring) => ({
  ...ring,
  curves: ring.curves.map((curve) => decode(curve, Float32Array)),
}));

const state = {
  level: 0,
  unit: -1,
  held: false,
  space: "visual",
  coloring: "paths",
  zoom: 1,
  look: 0,
  field: [], // per level: paths to or from the unit, [N]; null: nothing is selected
};

// ---- the graph ----------------------------------------------------------------------------------

/** Paths between a unit and every unit of every level, by count. */
function pathsOf(level, unit) {
  const paths = levels.map((each) => new Float64Array(each.count));
  paths[level][unit] = 1;
  for (let i = level - 1; i >= 0; i--) {
    const { ptr, src } = graphs[i];
    for (let dst = 0; dst < paths[i + 1].length; dst++) {
      const along = paths[i + 1][dst];
      if (along) for (let e = ptr[dst]; e < ptr[dst + 1]; e++) paths[i][src[e]] += along;
    }
  }
  for (let i = level; i < graphs.length; i++) {
    const { ptr, src } = graphs[i];
    for (let dst = 0; dst < paths[i + 1].length; dst++) {
      let sum = 0;
      for (let e = ptr[dst]; e < ptr[dst + 1]; e++) sum += paths[i][src[e]];
      paths[i + 1][dst] = sum;
    }
  }
  return paths;
}

/** The colours of every level's units at a look: the mean of what leads to each, [N · 3]. */
function colorsOf(look) {
  if (!look) return null;
  if (!look.colors) {
    look.colors = [look.samples];
    graphs.forEach(({ ptr, src }, i) => {
      const below = look.colors[i],
        above = new Uint8Array(3 * levels[i + 1].count);
      for (let dst = 0; dst < levels[i + 1].count; dst++) {
        const sum = [0, 0, 0];
        for (let e = ptr[dst]; e < ptr[dst + 1]; e++)
          for (let c = 0; c < 3; c++) sum[c] += below[3 * src[e] + c];
        for (let c = 0; c < 3; c++)
          above[3 * dst + c] = sum[c] / Math.max(1, ptr[dst + 1] - ptr[dst]);
      }
      look.colors.push(above);
    });
  }
  return look.colors;
}

// ---- geometry -----------------------------------------------------------------------------------

function polygon(curve) {
  const path = new Path2D();
  for (let i = 0; i < curve.length; i += 2) path.lineTo(curve[i], curve[i + 1]);
  path.closePath();
  return path;
}

function circle(radius) {
  const path = new Path2D();
  path.arc(0, 0, radius, 0, 2 * Math.PI);
  return path;
}

const edges = { visual: circle(data.edge), cortical: new Path2D() };
outlines.forEach((curve) => edges.cortical.addPath(polygon(curve)));

/** How far a space reaches to the sides and up. */
const reach = {
  visual: [data.edge, data.edge],
  cortical: [0, 1].map((axis) =>
    Math.max(
      ...outlines.map((curve) =>
        curve.reduce(
          (most, value, i) => (i % 2 === axis ? Math.max(most, Math.abs(value)) : most),
          0,
        ),
      ),
    ),
  ),
};

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

/** The line between units that are lit and units that are not. */
function border({ delaunay, voronoi }, lit) {
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
  /** Of that size in pixels; the place of pixel (i, j) is (left + i · step, top − j · step). */
  constructor(width, height, [left, top, right, down], { delaunay }, edge) {
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d");
    this.pixels = this.context.createImageData(width, height);
    this.units = new Int32Array(width * height).fill(-1);
    for (let j = 0, near = 0; j < height; j++) {
      const y = top + (j + 0.5) * down;
      for (let i = 0; i < width; i++) {
        const x = left + (i + 0.5) * right;
        if (x * x + y * y > edge * edge) continue;
        this.units[j * width + i] = near = delaunay.find(x, y, near);
      }
    }
  }

  /** Return the canvas, painted in colours [N] as 0xAABBGGRR. */
  paint(colors) {
    const words = new Uint32Array(this.pixels.data.buffer);
    for (let i = 0; i < words.length; i++) words[i] = this.units[i] < 0 ? 0 : colors[this.units[i]];
    this.context.putImageData(this.pixels, 0, 0);
    return this.canvas;
  }
}

/** The number 0xAABBGGRR of a colour #rrggbb. */
function word(color) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

const words = {
  field: data.field.map(word),
  projection: data.projection.map(word),
  unreached: word(data.unreached),
};

// ---- panels -------------------------------------------------------------------------------------

function prepare(canvas, aspect, width) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const height = Math.round(width * aspect);
  canvas.style.height = `${height}px`;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
}

class Level {
  constructor(index) {
    this.index = index;
    const { name, count } = levels[index],
      graph = graphs[index - 1];
    const how = graph ? `, ${graph.kind} of k = ${graph.k}` : "";
    this.what = `${name}: ${count.toLocaleString("en")} unit${count > 1 ? "s" : ""}${how}`;
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const title = document.createElement("b");
    title.textContent = `${index}. ${name}`;
    const size = document.createElement("span");
    size.textContent = this.what.slice(name.length + 2);
    this.note = document.createElement("span");
    caption.append(title, size, this.note);
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "map of units");
    this.canvas.setAttribute("aria-label", this.what);
    figure.append(caption, this.canvas);
    byId("levels").append(figure);
    listen(this.canvas, (event) => [index, this.unitAt(event)]);
    this.canvas.addEventListener("focus", () => {
      if (state.level !== index && this.canvas.matches(":focus-visible")) goTo(index);
    });
    this.canvas.addEventListener("keydown", onKey);
  }

  get zoom() {
    return state.space === "visual" ? state.zoom : 1;
  }

  layout() {
    const [across, up] = reach[state.space];
    prepare(this.canvas, up / across, this.canvas.parentElement.clientWidth);
    this.scale = (this.canvas.width / 2 / (1.03 * across)) * this.zoom; // pixels per degree or mm
    const width = this.canvas.clientWidth,
      height = this.canvas.clientHeight;
    const step = this.canvas.width / width / this.scale;
    const corner = [(-width / 2) * step, (height / 2) * step, step, -step];
    this.raster = new Raster(width, height, corner, frameOf(this.index, state.space), Infinity);
  }

  place({ offsetX, offsetY }) {
    const ratio = this.canvas.width / this.canvas.clientWidth;
    return [
      (offsetX * ratio - this.canvas.width / 2) / this.scale,
      (this.canvas.height / 2 - offsetY * ratio) / this.scale,
    ];
  }

  unitAt(event) {
    const [x, y] = this.place(event);
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (!context.isPointInPath(edges[state.space], x, y)) return -1;
    return frameOf(this.index, state.space).delaunay.find(x, y);
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const frame = frameOf(this.index, state.space),
      { count } = levels[this.index];
    const weight = state.field?.[this.index],
      pixel = this.canvas.width / this.canvas.clientWidth / this.scale;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(
      this.scale,
      0,
      0,
      -this.scale,
      this.canvas.width / 2,
      this.canvas.height / 2,
    );
    context.save();
    context.clip(edges[state.space]);
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    const picture = this.raster.paint(this.colors(weight));
    context.drawImage(picture, 0, 0, this.canvas.width, this.canvas.height);
    context.restore();
    if (count <= MOST_LINES) {
      const lines = new Path2D();
      frame.voronoi.render(lines);
      context.strokeStyle = "#fff";
      context.lineWidth = pixel;
      context.stroke(lines);
    }
    this.drawRings(context, pixel);
    if (weight) {
      context.strokeStyle = "#000";
      context.lineWidth = 1.25 * pixel;
      context.stroke(border(frame, weight));
    }
    context.restore();
    context.strokeStyle = "#767676";
    context.lineWidth = pixel;
    context.stroke(edges[state.space]);
    if (weight && this.index === state.level) this.drawUnit(context, frame, pixel);
    this.tell(weight);
  }

  /** The colour of every unit, [N]. */
  colors(weight) {
    const seen = colorsOf(looks[state.look])?.[this.index];
    const pictured = seen && (!weight || state.coloring === "picture");
    const ramp = this.index > state.level ? words.projection : words.field;
    const most = weight?.reduce((a, b) => Math.max(a, b), 0);
    return Uint32Array.from({ length: levels[this.index].count }, (_, i) => {
      if (weight ? !weight[i] : !seen) return words.unreached;
      if (pictured)
        return (255 << 24) | (seen[3 * i + 2] << 16) | (seen[3 * i + 1] << 8) | seen[3 * i];
      const share = state.coloring === "paths" ? weight[i] / most : 0.75;
      return ramp[Math.min(ramp.length - 1, Math.floor(share * ramp.length))];
    });
  }

  drawRings(context, pixel) {
    const visible = rings.filter(({ degrees }) => degrees * this.zoom > data.edge / 7);
    let labelled = 0;
    for (const { degrees, curves } of state.space === "visual" ? visible : rings) {
      const paths = state.space === "visual" ? [circle(degrees)] : curves.map(polygon);
      for (const [ink, width] of [
        ["#0006", 2],
        ["#fffc", 1],
      ]) {
        context.strokeStyle = ink;
        context.lineWidth = width * pixel;
        paths.forEach((path) => context.stroke(path));
      }
      const [x, y] =
        state.space === "visual"
          ? [0, degrees]
          : [curves[0][2 * Math.floor(curves[0].length / 4)], 0];
      if (Math.hypot(x, y) < labelled + 18 * pixel) continue; // no room
      labelled = Math.hypot(x, y);
      context.save();
      context.translate(x, y);
      context.scale(pixel, -pixel);
      label(context, `${degrees}°`, 0, 0);
      context.restore();
    }
    cross(context, 0, 0, 5 * pixel, "#fff", pixel);
  }

  drawUnit(context, { voronoi }, pixel) {
    const cell = new Path2D(),
      places = levels[this.index].places[state.space];
    voronoi.renderCell(state.unit, cell);
    const ring = new Path2D();
    ring.arc(places[2 * state.unit], places[2 * state.unit + 1], 7 * pixel, 0, 2 * Math.PI);
    for (const [ink, width] of [
      ["#fff", 5],
      [UNIT_COLOR, 3],
    ]) {
      context.strokeStyle = ink;
      context.lineWidth = width * pixel;
      context.stroke(ring);
    }
    context.save();
    context.clip(edges[state.space]);
    context.lineWidth = 2 * pixel;
    context.stroke(cell);
    context.restore();
  }

  tell(weight) {
    const reached = weight ? weight.reduce((sum, paths) => sum + (paths > 0), 0) : 0;
    const verb = reached === 1 ? "es" : "";
    this.note.textContent = !weight
      ? " "
      : this.index === state.level
        ? `the unit: ${state.unit}`
        : this.index < state.level
          ? `${reached.toLocaleString("en")} reach${verb} the unit`
          : `${reached.toLocaleString("en")} reached by the unit`;
  }
}

function label(context, text, x, y) {
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 2.5;
  context.strokeStyle = "#000c";
  context.fillStyle = "#fff";
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function cross(context, x, y, arm, color, pixel) {
  const path = new Path2D();
  path.moveTo(x - arm, y);
  path.lineTo(x + arm, y);
  path.moveTo(x, y - arm);
  path.lineTo(x, y + arm);
  for (const [ink, width] of [
    ["#000", 3.5],
    [color, 1.75],
  ]) {
    context.strokeStyle = ink;
    context.lineWidth = width * pixel;
    context.stroke(path);
  }
}

/** The photograph, whole, with the view laid over it. Coordinates are the photograph's pixels. */
class Photograph {
  constructor() {
    this.canvas = byId("photograph");
    const { width, height } = data.photograph;
    const sides = looks.map((look) => [
      look.column * width - look.width / 2,
      look.row * height - look.height / 2,
      look.column * width + look.width / 2,
      look.row * height + look.height / 2,
    ]);
    const bound = (i, least, own) => least(own, ...sides.map((side) => side[i]));
    const margin = 0.01 * Math.max(width, height);
    this.left = bound(0, Math.min, 0) - margin;
    this.top = bound(1, Math.min, 0) - margin;
    this.width = bound(2, Math.max, width) + margin - this.left;
    this.height = bound(3, Math.max, height) + margin - this.top;
    this.image = new Image();
    this.image.src = data.photograph.url;
    listen(this.canvas, (event) => [0, this.unitAt(event)]);
  }

  layout() {
    const aspect = this.height / this.width,
      room = this.canvas.parentElement.clientWidth;
    const width = Math.min(
      room,
      ((window.innerWidth < 700 ? 0.36 : 0.7) * window.innerHeight) / aspect,
    );
    this.canvas.style.width = `${width}px`;
    prepare(this.canvas, aspect, width);
    this.scale = this.canvas.width / this.width;
    this.dim = this.layer(0.45, "saturation");
    this.bright = this.layer(1, null);
    this.mask = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    this.rasters = [];
  }

  get transform() {
    return [this.scale, 0, 0, this.scale, -this.left * this.scale, -this.top * this.scale];
  }

  /** The look's degrees to the canvas's pixels. */
  get view() {
    const look = looks[state.look],
      { width, height } = data.photograph;
    const across = look.width / data.fov,
      down = look.height / data.fov;
    const x = (look.column * width - this.left) * this.scale,
      y = (look.row * height - this.top) * this.scale;
    return [across * this.scale, 0, 0, -down * this.scale, x, y];
  }

  /** The photograph at the canvas's size, darkened to a share of its light, grey if asked for. */
  layer(light, blend) {
    const canvas = new OffscreenCanvas(this.canvas.width, this.canvas.height),
      context = canvas.getContext("2d");
    const { width, height } = data.photograph;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(...this.transform);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.image, 0, 0, width, height);
    if (blend) {
      context.globalCompositeOperation = blend;
      context.fillStyle = "#808080";
      context.fillRect(0, 0, width, height);
    }
    context.globalCompositeOperation = "source-over";
    context.fillStyle = `rgb(0 0 0 / ${1 - light})`;
    context.fillRect(0, 0, width, height);
    return canvas;
  }

  unitAt({ offsetX, offsetY }) {
    const ratio = this.canvas.width / this.canvas.clientWidth,
      [a, , , d, x, y] = this.view;
    const place = [(offsetX * ratio - x) / a, (offsetY * ratio - y) / d];
    if (Math.hypot(...place) > data.edge) return -1;
    return frameOf(0, "visual").delaunay.find(...place);
  }

  draw() {
    const context = this.canvas.getContext("2d"),
      weight = state.field?.[0],
      frame = frameOf(0, "visual");
    const [a, , , d] = this.view,
      pixel = this.canvas.width / this.canvas.clientWidth / Math.min(a, -d);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(weight ? this.dim : this.bright, 0, 0);
    if (weight) {
      context.drawImage(this.light(weight), 0, 0);
      context.setTransform(...this.view);
      context.save();
      context.clip(edges.visual);
      context.strokeStyle = "#fff";
      context.lineWidth = 1.5 * pixel;
      context.stroke(border(frame, weight));
      context.restore();
    }
    context.setTransform(...this.view);
    for (const [ink, width] of [
      ["#000", 3.5],
      [GAZE_COLOR, 2],
    ]) {
      context.strokeStyle = ink;
      context.lineWidth = width * pixel;
      context.stroke(circle(data.fov / 2));
    }
    cross(context, 0, 0, 8 * pixel, GAZE_COLOR, pixel);
    if (weight && state.level === 0) {
      const [x, y] = levels[0].places.visual.subarray(2 * state.unit, 2 * state.unit + 2),
        ring = new Path2D();
      ring.arc(x, y, 7 * pixel, 0, 2 * Math.PI);
      for (const [ink, width] of [
        ["#fff", 5],
        [UNIT_COLOR, 3],
      ]) {
        context.strokeStyle = ink;
        context.lineWidth = width * pixel;
        context.stroke(ring);
      }
    }
    byId("seen-note").textContent = weight
      ? "in colour where the unit sees it"
      : "and the field of view";
  }

  /** The retina's cells at this look. */
  raster() {
    const width = this.canvas.clientWidth,
      height = this.canvas.clientHeight;
    const ratio = this.canvas.width / width,
      [a, , , d, x, y] = this.view;
    const corner = [-x / a, -y / d, ratio / a, ratio / d];
    return (this.rasters[state.look] ??= new Raster(
      width,
      height,
      corner,
      frameOf(0, "visual"),
      data.edge,
    ));
  }

  /** The photograph's colours where the unit sees them, the more paths the more opaque. */
  light(weight) {
    const context = this.mask.getContext("2d"),
      most = weight.reduce((a, b) => Math.max(a, b), 0);
    // The root lets the outskirts be seen as well.
    const share = (paths) => (state.coloring === "paths" ? Math.sqrt(paths / most) : paths && 1);
    const alphas = Uint32Array.from(weight, (paths) => Math.round(255 * share(paths)) << 24);
    context.globalCompositeOperation = "copy";
    context.drawImage(this.raster().paint(alphas), 0, 0, this.mask.width, this.mask.height);
    context.globalCompositeOperation = "source-in";
    context.drawImage(this.bright, 0, 0);
    return this.mask;
  }
}

// ---- what happens -------------------------------------------------------------------------------

let panels = [],
  photograph = null;
let asked = true; // until all is laid out

/** Draw once before the screen is next refreshed, however often it is asked for. */
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    panels.forEach((panel) => panel.draw());
  });
}

function relayout() {
  panels.forEach((panel) => panel.layout());
  redraw();
}

function select(level, unit, aloud) {
  if (level !== state.level || unit !== state.unit) {
    Object.assign(state, { level, unit, field: unit < 0 ? null : pathsOf(level, unit) });
    redraw();
  }
  byId("level").value = level;
  byId("unit").max = levels[level].count - 1;
  byId("unit").value = unit < 0 ? "" : unit;
  byId("status").textContent = describe();
  if (aloud) byId("announcement").textContent = describe();
}

function describe() {
  const { level, unit, field } = state;
  if (!field)
    return "Nothing is selected: point at a unit, or go to a level with the Tab key and press an arrow key.";
  const [x, y] = levels[level].places.visual.subarray(2 * unit, 2 * unit + 2);
  const round = (value) => Math.abs(value).toFixed(Math.abs(value) < 1 ? 2 : 1);
  const size = (i) =>
    `${field[i].reduce((sum, paths) => sum + (paths > 0), 0).toLocaleString("en")} of ${levels[i].count.toLocaleString("en")}`;
  const aside =
    Math.hypot(x, y) < 1e-6
      ? "at the point of gaze"
      : `${round(x)}° ${x < 0 ? "left of" : "right of"} the point of gaze and ${round(y)}° ${y < 0 ? "below" : "above"} it`;
  const parts = [`Unit ${unit} of ${levels[level].name}, ${aside}.`];
  if (level > 0) parts.push(`It sees ${size(0)} samples of the ${levels[0].name}.`);
  const top = levels.length - 1;
  if (level < top) parts.push(`It reaches ${size(level + 1)} units of ${levels[level + 1].name}.`);
  if (state.held) parts.push("Held: click it again or press Esc to let go.");
  return parts.join(" ");
}

function hold(held) {
  state.held = held;
  byId("status").textContent = describe();
}

/** Select the unit of another level that is at the same place. */
function goTo(level) {
  if (level < 0 || level >= levels.length) return;
  const places = levels[state.level].places.visual,
    { delaunay } = frameOf(level, "visual");
  const [x, y] = state.unit < 0 ? [0, 0] : places.subarray(2 * state.unit, 2 * state.unit + 2);
  select(level, delaunay.find(x, y), true);
  panels.find((panel) => panel.index === level).canvas.focus({ preventScroll: false });
}

/** Select the next unit in a direction of the space that is drawn. */
function step(right, up) {
  const { delaunay } = frameOf(state.level, state.space),
    places = levels[state.level].places[state.space];
  if (state.unit < 0) return select(state.level, 0, true);
  let best = -1,
    most = 0.3;
  for (const near of delaunay.neighbors(state.unit)) {
    const x = places[2 * near] - places[2 * state.unit],
      y = places[2 * near + 1] - places[2 * state.unit + 1];
    const along = (x * right + y * up) / Math.hypot(x, y);
    if (along > most) [best, most] = [near, along];
  }
  if (best >= 0) select(state.level, best, true);
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const climb = { PageUp: 1, PageDown: -1, ...(event.shiftKey && { ArrowUp: 1, ArrowDown: -1 }) };
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (climb[event.key]) goTo(state.level + climb[event.key]);
  else if (moves[event.key]) step(...moves[event.key]);
  else if (event.key === "Home") select(state.level, 0, true);
  else if (event.key === "Enter") hold(!state.held);
  else return;
  event.preventDefault();
}

/** Let a pointer select on a canvas: a mouse by hovering, anything by a click or a tap. */
function listen(canvas, unitAt) {
  canvas.addEventListener("pointermove", (event) => {
    if (state.held || event.pointerType !== "mouse") return;
    const [level, unit] = unitAt(event);
    if (unit >= 0) select(level, unit, false);
  });
  canvas.addEventListener("click", (event) => {
    const [level, unit] = unitAt(event);
    if (unit < 0) return;
    const again = state.held && level === state.level && unit === state.unit;
    select(level, unit, true);
    hold(!again);
  });
}

function start() {
  for (const [index, { name }] of levels.entries())
    byId("level").add(new Option(`${index}. ${name}`, index));
  byId("field-bar").style.background = `linear-gradient(to right, ${data.field})`;
  byId("projection-bar").style.background = `linear-gradient(to right, ${data.projection})`;
  byId("unreached-patch").style.background = data.unreached;
  const pictured = looks.length > 0;
  byId("seen").hidden = byId("mean-note").hidden = !pictured;
  byId("coloring").options[2].hidden = byId("coloring").options[2].disabled = !pictured;
  document.querySelectorAll(".with-photograph").forEach((each) => {
    each.hidden = !pictured;
  });
  document.querySelector("main").classList.toggle("without-photograph", !pictured);
  byId("looking").hidden = looks.length < 2;
  byId("fixation").max = looks.length;

  panels = levels.map((_, index) => new Level(index));
  if (pictured) panels.push((photograph = new Photograph()));

  byId("level").addEventListener("change", (event) => {
    const level = Number(event.target.value);
    const places = levels[state.level].places.visual;
    const [x, y] = state.unit < 0 ? [0, 0] : places.subarray(2 * state.unit, 2 * state.unit + 2);
    select(level, frameOf(level, "visual").delaunay.find(x, y), true);
    hold(true);
  });
  byId("unit").addEventListener("input", (event) => {
    const unit = Number(event.target.value);
    if (
      event.target.value === "" ||
      !Number.isInteger(unit) ||
      unit < 0 ||
      unit >= levels[state.level].count
    )
      return;
    select(state.level, unit, true);
    hold(true);
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("space").addEventListener("change", (event) => {
    state.space = event.target.value;
    byId("zooming").hidden = state.space !== "visual";
    relayout();
  });
  byId("coloring").addEventListener("change", (event) => {
    state.coloring = event.target.value;
    redraw();
  });
  byId("zoom").addEventListener("input", (event) => {
    state.zoom = 2 ** Number(event.target.value);
    byId("zoomed").textContent = `${Number(state.zoom.toPrecision(2))}×`;
    event.target.setAttribute("aria-valuetext", `${Number(state.zoom.toPrecision(2))} times`);
    relayout();
  });
  const look = () => {
    state.look = Number(byId("fixation").value) - 1;
    byId("fixated").textContent = `${state.look + 1} of ${looks.length}`;
    byId("fixation").setAttribute("aria-valuetext", byId("fixated").textContent);
    redraw();
  };
  byId("fixation").addEventListener("input", look);
  byId("clear").addEventListener("click", () => {
    state.held = false;
    select(state.level, -1, true);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hold(false);
  });
  window.addEventListener("resize", relayout);

  look();
  select(data.start.level, data.start.unit, false);
  const show = () => {
    asked = false;
    relayout();
    requestAnimationFrame(() => setTimeout(() => performance.mark("drawn")));
  };
  if (photograph) photograph.image.decode().then(show, show);
  else show();
}

start();
